"""`utility`: what each share of a teacher's knowledge is worth to a student, as a curve."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tasks import Dataset
from compress.batches import Progress
from compress.binding import bind
from compress.checkpoint import load
from compress.distill.identity import fingerprint
from compress.distill.knowledge import Knowledge
from compress.distill.layer_map import layer_pairs
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.context import SPLITS, Context
from compress_export.keeping import Wanted, keep
from compress_export.learning import encoded, metrics_of
from compress_export.loading import check_alone, check_checkpoint_target
from compress_export.recipe import make_recipe
from compress_export.schooling import School, train_seeds
from compress_export.stages import content_key
from compress_export.utility import (
    DIMENSIONS,
    Dimension,
    Point,
    Sweep,
    forget,
    remembered,
    share_kept,
    utility_figure,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """What every point shares.

    Attributes:
        context: Of the teacher.
        student: A checkpoint, trained anew for each point.
        seeds: One training each; the metric is their mean.
        out: Where points are written.
        progress: Told how far each step is.
    """

    context: Context
    student: str
    seeds: tuple[int, ...]
    out: Path
    progress: Progress

    def point(self, dimension: Dimension, knowledge: Knowledge) -> Point:
        """The metric of a student of so much knowledge; measured once."""
        folder = self.out / _name(dimension, knowledge)
        key = self._key(knowledge)
        found = remembered(folder / "point.json")
        if found is None or found.pop("key", "") != key:
            point = self._trained(dimension, knowledge, folder)
            text = json.dumps(asdict(point) | {"key": key})
            (folder / "point.json").write_text(text, encoding="utf-8")
            return point
        return Point(**(found | {"knowledge": Knowledge(**found["knowledge"])}))

    def _key(self, knowledge: Knowledge) -> str:
        """Hash of all that a point depends on."""
        recipe, data = self.context.recipe, self.context.dataset("train")
        return content_key(
            {
                "knowledge": asdict(knowledge),
                "teacher": fingerprint(self.context.teacher),
                "student": fingerprint(load(self.student)),
                "data": (data.texts, data.labels),
                "recover": recipe.recover,
                "cut": recipe.benchmark.max_length,
                "seeds": self.seeds,
            }
        )

    def _trained(self, dimension: Dimension, knowledge: Knowledge, folder: Path) -> Point:
        layers = sum(bind(load(self.student)).shape.uses)
        wanted = Wanted(knowledge=knowledge, student_layers=layers)
        store = keep(self.context, wanted, folder / "store", self.progress)
        school = School(self.context, self.student, store, None)
        validation = self.context.dataset("validation")
        trained = train_seeds(
            school.make, self.seeds, folder / "student", validation, school.teaching, self.progress
        )
        cut = self.context.recipe.benchmark.max_length
        rows = encoded(self.context.dataset("train").texts, self.context.tokenizer, cut)
        lengths = [len(row["input_ids"]) for row in rows]
        point = Point(
            dimension=dimension,
            knowledge=knowledge,
            share=share_kept(store.facts, lengths),
            bytes_per_example=store.n_bytes / len(rows),
            metric=float(np.mean([t.metrics[self.context.task.metrics[0]] for t in trained])),
        )
        forget(store.folder)
        return point


def run(
    student: str,
    data: dict[str, Any],
    sweep: Sweep,
    examples: int | None,
    seeds: Sequence[int],
    out: Path,
    *,
    as_json: bool,
) -> None:
    """Train `student` at every point of the sweep; print the table, draw `out/utility.svg`."""
    check_alone("utility")
    wanted = list(sweep.points())
    context = Context(make_recipe(data), Path())
    check_checkpoint_target(out / "student", context.model_source)
    context.check(SPLITS)
    n_student, n_teacher = (sum(bind(m).shape.uses) for m in (load(student), context.teacher))
    pairs = layer_pairs("uniform", n_student, n_teacher)
    for _, knowledge in wanted:
        knowledge.pairs(pairs)  # refuses what is not there, before any work
    if examples is not None:
        context.take(examples)
    out.mkdir(parents=True, exist_ok=True)
    with progress() as report:
        study = Study(
            context=context, student=student, seeds=tuple(seeds), out=out, progress=report
        )
        points = [study.point(dimension, knowledge) for dimension, knowledge in wanted]
        teacher = _teacher_metric(context, student, context.dataset("validation"), report)
    metric = context.task.metrics[0]
    facts = {"metric": metric, "teacher": teacher, "examples": len(context.dataset("train"))}
    facts["points"] = [asdict(point) for point in points]
    (out / "utility.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    (out / "utility.svg").write_text(utility_figure(points, metric, teacher), encoding="utf-8")
    if as_json:
        console.print_json(json.dumps(facts))
        return
    rows = [
        [_name(p.dimension, p.knowledge), f"{p.share:.2%}", f"{p.bytes_per_example:,.0f}",
         f"{p.metric:.4f}", f"{p.metric / teacher:.1%}"]
        for p in points
    ]  # fmt: skip
    header = ["", "hidden states", "bytes an example", metric, "kept"]
    table(f"knowledge of {context.recipe.model}", header, rows)
    console.print(f"curve: {out / 'utility.svg'}", soft_wrap=True)


def _teacher_metric(
    context: Context, student: str, validation: Dataset, progress: Progress
) -> float:
    course = School(context, student, None, None).make(0).course
    found = metrics_of(context.teacher, course, validation, progress)
    return found[context.task.metrics[0]]


def _name(dimension: Dimension, knowledge: Knowledge) -> str:
    """Of a point, and of its folder."""
    if dimension not in DIMENSIONS:
        return dimension
    return f"{dimension}-{getattr(knowledge, dimension):g}"
