"""The parts of the grid: students, trainings on a share of the knowledge, and their time."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks import METRICS
from compress.checkpoint.checkpoint import load, save
from compress.checkpoint.tokenizer import save_tokenizer
from compress.distillation.cache_spec import CacheSpec
from compress.distillation.teacher_cache import CacheMetadata, TeacherCache
from compress.errors import PlanError, RecipeError
from compress.files.folder import writing
from compress.model.batches import silent
from compress.model.binding import bind
from compress.model.surgery import apply_
from compress.plan.cost import encoder_macs
from compress.pruner.students import fresh_student, plan_of_sizes
from compress_export.context import Context
from compress_export.keeping import Wanted, keep
from compress_export.learning import encoded, learn, metrics_of
from compress_export.loading import load_tokenizer
from compress_export.options import task_of
from compress_export.recipe import make_recipe
from compress_export.schooling import School, train_seeds
from compress_export.studies.grid import Cell, Row
from compress_export.studies.schools import Lessons

__all__ = ["Kind", "Paces", "Pupilled", "Taught", "Teacher"]

Kind = Literal["cut", "fresh"]
"""As ROSITA's: lower half of the teacher's layers, a sixth of their heads, a quarter of their
neurons; as TinyBERT's: a third of the layers, narrower, of random weights."""

_ROUNDS = 3


def context_of(teacher: str, lessons: Lessons) -> Context:
    """The teacher with its data, as a recipe would have it."""
    context = Context(
        make_recipe(
            {
                "model": teacher,
                "task": task_of(lessons.given),
                "data": lessons.data,
                "target": {"sequence": min(64, lessons.max_length)},
                "benchmark": {
                    "max_length": lessons.max_length,
                    "sequences": [min(64, lessons.max_length)],
                },
                "recover": {
                    "epochs": lessons.epochs,
                    "learning_rate": lessons.learning_rate,
                    "batch_size": lessons.batch_size,
                },
            }
        ),
        Path(),
    )
    if lessons.train is not None:
        context.take(lessons.train)
    return context


@dataclass(frozen=True, kw_only=True)
class Pupilled(Cell):
    """An untrained student of a teacher.

    Attributes:
        teacher: Checkpoint.
        kind: Which of the two.
        task: For the name.
        out: Folder of the student.
    """

    teacher: str
    kind: Kind
    task: str
    out: str

    @property
    def name(self) -> str:
        """Of the cell."""
        return f"student-{self.task}-{self.kind}"

    def reads(self) -> tuple[str, ...]:
        """The teacher."""
        return (self.teacher,)

    def writes(self) -> tuple[str, ...]:
        """The student's folder, empty where there is none."""
        return (self.out,)

    def work(self) -> list[Row]:
        """One row; `problem` says why there is no such student."""
        facts: Row = {"task": self.task, "kind": self.kind, "folder": self.out, "problem": None}
        try:
            self._cut() if self.kind == "cut" else self._fresh()
        except (PlanError, RecipeError) as error:
            Path(self.out).mkdir(parents=True, exist_ok=True)
            return [facts | {"problem": str(error), "macs": None, "layers": None}]
        shapes = [bind(load(path)).shape for path in (self.teacher, self.out)]
        macs = [encoder_macs(shape, 64) for shape in shapes]
        return [facts | {"macs": macs[1] / macs[0], "layers": shapes[1].depth}]

    def _cut(self) -> None:
        model = load(self.teacher)
        shape = bind(model).shape
        layers = range(max(1, shape.n_layers // 2))
        heads, neurons = min(shape.n_heads) // 6, min(shape.ffn_widths) // 4
        plan = plan_of_sizes(model, list(layers), max(1, heads), max(1, neurons))
        apply_(model, plan)
        save(model, plan, Path(self.out), load_tokenizer(self.teacher))

    def _fresh(self) -> None:
        model = load(self.teacher)
        shape = bind(model).shape
        hidden = shape.n_heads[0] * max(2, 2 * round(0.2 * shape.head_width))
        changes: dict[str, Any] = {
            "num_hidden_layers": max(1, shape.depth // 3),
            "hidden_size": hidden,
        }
        if hasattr(model.config, "intermediate_size"):
            changes["intermediate_size"] = 4 * hidden
        if hasattr(model.config, "d_head"):  # XLNet says the width of a head beside
            changes["d_head"] = hidden // shape.n_heads[0]
        student = fresh_student(model, changes)
        with writing(Path(self.out), "checkpoint") as folder:
            student.save_pretrained(folder)
            save_tokenizer(load_tokenizer(self.teacher), folder)


@dataclass(frozen=True, kw_only=True)
class Taught(Cell):
    """A student trained on a share of the knowledge, its teacher not loaded.

    Attributes:
        teacher, student: Checkpoints.
        kind: Of the student.
        lessons: The task.
        dimension: What was cut.
        depth, length, width: What was left, see `CacheSpec`.
        seed: Of the training.
        out: Folder for store and student.
    """

    teacher: str
    student: str
    kind: Kind
    lessons: Lessons
    dimension: str
    depth: int | None
    length: int | None
    width: float
    seed: int
    out: str

    @property
    def name(self) -> str:
        """Of the cell."""
        cut = f"{self.dimension}-{self.depth}-{self.length}-{self.width:g}"
        return f"taught-{self.lessons.task}-{self.kind}-{cut}-{self.seed}"

    def reads(self) -> tuple[str, ...]:
        """Teacher and student."""
        return (self.teacher, self.student, *self.lessons.files())

    def work(self) -> list[Row]:
        """One row."""
        context = context_of(self.teacher, self.lessons)
        home = Path(self.out) / self.name
        knowledge = CacheSpec(depth=self.depth, max_tokens=self.length, feature_fraction=self.width)
        store = _store(context, self.student, knowledge, home / "store")
        school = School(context, self.student, store, None)
        validation = context.dataset("validation")
        if self.lessons.judge is not None:
            validation = validation.sample(self.lessons.judge, 0)
        (trained,) = train_seeds(
            school.make, [self.seed], home / "student", validation, school.teaching, silent
        )
        rows = encoded(context.dataset("train").texts, context.tokenizer, self.lessons.max_length)
        share = share_kept(store.metadata, [len(row["input_ids"]) for row in rows])
        size = store.n_bytes / len(rows)
        shutil.rmtree(store.folder, ignore_errors=True)
        row: Row = {"task": self.lessons.task, "kind": self.kind, "dimension": self.dimension}
        row |= {"depth": self.depth, "length": self.length, "width": self.width}
        row |= {"seed": self.seed, "share": share, "bytes_per_example": size}
        return [row | {"metric": trained.metrics[context.task.metrics[0]]}]


@dataclass(frozen=True, kw_only=True)
class Paces(Cell):
    """An epoch with the teacher beside the student, and one from a store, in turns.

    Attributes:
        teacher, student: Checkpoints.
        kind: Of the student.
        lessons: The task.
        examples: Of an epoch.
        out: Folder for the store.
    """

    teacher: str
    student: str
    kind: Kind
    lessons: Lessons
    examples: int
    out: str

    @property
    def name(self) -> str:
        """Of the cell."""
        return f"paces-{self.lessons.task}-{self.kind}"

    def reads(self) -> tuple[str, ...]:
        """Teacher and student."""
        return (self.teacher, self.student, *self.lessons.files())

    def work(self) -> list[Row]:
        """A row a round."""
        once = Lessons(**(asdict(self.lessons) | {"epochs": 1, "train": self.examples}))
        context = context_of(self.teacher, once)
        folder = Path(self.out) / self.name
        start = time.perf_counter()
        store = _store(context, self.student, CacheSpec(), folder)
        kept = time.perf_counter() - start
        schools = {
            "online": School(context, self.student, None, None),
            "offline": School(context, self.student, store, None),
        }
        rows: list[Row] = []
        for number in range(_ROUNDS):
            turn = list(schools.items())[:: -1 if number % 2 else 1]
            times = {name: _seconds(school) for name, school in turn}
            facts = {"task": self.lessons.task, "kind": self.kind, "round": number}
            rows.append(facts | times | {"ratio": times["online"] / times["offline"]})
        shutil.rmtree(folder, ignore_errors=True)
        return [row | {"store_seconds": kept} for row in rows]


@dataclass(frozen=True, kw_only=True)
class Teacher(Cell):
    """The teacher's own metric on what students are judged by."""

    teacher: str
    lessons: Lessons

    @property
    def name(self) -> str:
        """Of the cell."""
        return f"teacher-{self.lessons.task}"

    def reads(self) -> tuple[str, ...]:
        """The teacher, and the data."""
        return (self.teacher, *self.lessons.files())

    def work(self) -> list[Row]:
        """One row."""
        context = context_of(self.teacher, self.lessons)
        course = School(context, self.teacher, None, None).make(0).course
        validation = context.dataset("validation")
        if self.lessons.judge is not None:
            validation = validation.sample(self.lessons.judge, 0)
        found = metrics_of(context.teacher, course, validation, silent)
        name = context.task.metrics[0]
        chance = _chance(name, context.labels(validation))
        return [{"task": self.lessons.task, "metric": found[name], "chance": chance}]


def _chance(metric: str, labels: NDArray[np.float64]) -> float:
    """What is had by always giving the commonest answer."""
    values, counts = np.unique(labels, return_counts=True)
    return METRICS[metric](labels, np.full(len(labels), values[counts.argmax()]))


def share_kept(facts: CacheMetadata, lengths: Sequence[int]) -> float:
    """Values kept over all values of all layers that a student of as many could learn from.

    Args:
        facts: Of a store.
        lengths: Tokens of its examples.
    """
    most = facts.spec.max_tokens or facts.longest
    tokens = sum(min(length, most) for length in lengths)
    values = len(facts.pairs) * tokens * facts.n_features
    return values / ((facts.n_student + 1) * sum(lengths) * facts.hidden_size)


def _store(context: Context, student: str, knowledge: CacheSpec, folder: Path) -> TeacherCache:
    layers = sum(bind(load(student)).shape.uses)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return keep(context, Wanted(knowledge=knowledge, student_layers=layers), folder, silent)


def _seconds(school: School) -> float:
    """Of an epoch in its stride: two epochs less one, for a training's beginning is its own."""
    return _trained(school, 2) - _trained(school, 1)


def _trained(school: School, epochs: int) -> float:
    pupil = school.make(0)
    course = replace(pupil.course, spec=replace(pupil.course.spec, epochs=epochs))
    start = time.perf_counter()
    learn(pupil.model, course, teaching=school.teaching, plan=pupil.origin, progress=silent)
    return time.perf_counter() - start
