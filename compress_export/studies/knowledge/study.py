"""Liu, Meng, Lin, Wang and Zhou 2021 (arXiv 2106.05691) on one's own teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.report.findings import Findings
from compress.checkpoint.checkpoint import load
from compress.distillation.cache_spec import CacheSpec
from compress.distillation.layer_map import layer_pairs
from compress.errors import RecipeError
from compress.model.binding import bind
from compress.model.task_head import head_of
from compress_export.learning import check_tokenizers
from compress_export.loading import load_tokenizer
from compress_export.studies.fine_tune import fine_tunings
from compress_export.studies.grid import Grid, Row
from compress_export.studies.knowledge.cells import Kind, Paces, Pupilled, Taught, Teacher
from compress_export.studies.knowledge.findings import knowledge_findings
from compress_export.studies.question import Question
from compress_export.studies.schools import Lessons

__all__ = ["KnowledgeGrid", "study_knowledge"]

_KINDS: tuple[Kind, ...] = ("cut", "fresh")
_WHOLE = CacheSpec(depth=None, max_tokens=None, feature_fraction=1.0)
_PACED = 256
_QUICK_TRAIN, _QUICK_EPOCHS = 1024, 4
_RATE, _QUICK_RATE = 1e-4, 5e-4


@dataclass(frozen=True, kw_only=True, slots=True)
class KnowledgeGrid:
    """Which shares to try, one dimension at a time, the others whole; and all three at once.

    Attributes:
        depths, lengths, widths: The study's own choice where left out.
        student: A checkpoint in place of the study's two students.
    """

    depths: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    widths: tuple[float, ...] = ()
    student: str | None = None

    def points(self, *, quick: bool) -> Iterator[tuple[str, CacheSpec]]:
        """All hidden knowledge, logits alone, each cut, and the last of each that was named."""
        usual = ((1,), (5,), (0.1,)) if quick else ((1, 2), (2, 5, 10), (0.01, 0.1, 0.3))
        yield "all", _WHOLE
        yield "none", CacheSpec(depth=0)
        for depth in self.depths or usual[0]:
            yield "depth", replace(_WHOLE, depth=depth)
        for length in self.lengths or usual[1]:
            yield "length", replace(_WHOLE, max_tokens=length)
        for width in self.widths or usual[2]:
            yield "width", replace(_WHOLE, feature_fraction=width)
        last = (self.depths or (1,), self.lengths or usual[1][-1:], self.widths or (0.1,))
        yield (
            "joint",
            CacheSpec(depth=last[0][-1], max_tokens=last[1][-1], feature_fraction=last[2][-1]),
        )


def study_knowledge(question: Question, wanted: KnowledgeGrid, grid: Grid) -> Findings:
    """Make the students, teach each at every share, and time both ways to teach."""
    points = list(wanted.points(quick=question.quick))
    _check(wanted, points, question)
    work = question.out / "work"
    teachers = {t: question.teachers.get(t, str(work / t / "teacher")) for t in question.tasks}
    lessons = {t: question.lessons(t) for t in question.tasks}
    grid("fine-tuning", fine_tunings(question, lessons, teachers))
    looks = [Teacher(teacher=teachers[t], lessons=lessons[t]) for t in question.tasks]
    whole = grid("teachers", looks)
    students = _students(question, wanted, teachers, grid)
    usable = [student for student in students if student["problem"] is None]
    rows = grid("teaching", _taught(question, teachers, usable, points))
    paces = [
        row
        for student in usable[: len(_KINDS)]
        for row in grid("timing", [_pace(question, teachers, student)])  # each alone on the machine
    ]
    learn = _of_students(question, question.tasks[0])
    return knowledge_findings(question, learn, whole, students, rows, paces)


def _taught(
    question: Question,
    teachers: dict[str, str],
    students: Sequence[Row],
    points: Sequence[tuple[str, CacheSpec]],
) -> list[Taught]:
    return [
        Taught(
            teacher=teachers[student["task"]],
            student=student["folder"],
            kind=student["kind"],
            lessons=_of_students(question, student["task"]),
            dimension=dimension,
            depth=knowledge.depth,
            length=knowledge.max_tokens,
            width=knowledge.feature_fraction,
            seed=seed,
            out=str(question.out / "work" / student["task"]),
        )
        for student in students
        for dimension, knowledge in points
        for seed in question.seeds
    ]


def _of_students(question: Question, task: str) -> Lessons:
    """A small student learns from little at a higher rate, and longer."""
    lessons = question.lessons(task, _QUICK_TRAIN)
    if not question.quick:
        return replace(lessons, learning_rate=_RATE)
    epochs = question.epochs or _QUICK_EPOCHS
    return replace(lessons, learning_rate=_QUICK_RATE, epochs=epochs)


def _pace(question: Question, teachers: dict[str, str], student: Row) -> Paces:
    return Paces(
        teacher=teachers[student["task"]],
        student=student["folder"],
        kind=student["kind"],
        lessons=question.lessons(student["task"]),
        examples=_PACED,
        out=str(question.out / "work" / student["task"]),
    )


def _students(
    question: Question, wanted: KnowledgeGrid, teachers: dict[str, str], grid: Grid
) -> list[Row]:
    if wanted.student is not None:
        return [
            {"task": t, "kind": "given", "folder": wanted.student, "problem": None, "macs": None}
            for t in question.tasks
        ]
    cells = [
        Pupilled(
            teacher=teachers[task],
            kind=kind,
            task=task,
            out=str(question.out / "work" / task / f"student-{kind}"),
        )
        for task in question.tasks
        for kind in _KINDS
    ]
    return grid("students", cells)


def _check(
    wanted: KnowledgeGrid, points: Sequence[tuple[str, CacheSpec]], question: Question
) -> None:
    """Refuse knowledge that is not there, before any work."""
    n_teacher = bind(load(question.model)).shape.depth
    n_student = max(1, n_teacher // 3)
    if wanted.student is not None:
        n_student = _n_layers_of(wanted.student, question)
    pairs = layer_pairs("uniform", n_student, n_teacher)
    for _, knowledge in points:
        knowledge.pairs(pairs)


def _n_layers_of(student: str, question: Question) -> int:
    """The depth of a student that was named, once it is seen to fit."""
    model = load(student)
    if head_of(model).suffix != "ForSequenceClassification":
        raise RecipeError(
            f"--student must be a sequence classifier or regressor, found {type(model).__name__} "
            f"in {student!r}; fine-tune it first (`finetune`)"
        )
    check_tokenizers(load_tokenizer(student), load_tokenizer(question.model), ())
    return bind(model).shape.depth
