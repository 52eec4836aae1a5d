"""`distill`: train a student on what its teacher says, or on what a store kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.tasks import TextTask
from compress.distillation.gradual import GradualSpec
from compress.distillation.teacher_cache import open_cache
from compress.plan.cost import CostModel
from compress_export.console import progress
from compress_export.context import SPLITS, Context
from compress_export.learning import (
    metrics_of,
)
from compress_export.loading import check_checkpoint_target
from compress_export.recipe import make_recipe
from compress_export.schooling import School, print_trained, train_seeds


def run(
    student: str,
    store_folder: Path | None,
    data: dict[str, Any],
    prune_to: float | None,
    more_texts: Path | None,
    out: Path,
    seeds: Sequence[int],
    *,
    as_json: bool,
) -> None:
    """Train the checkpoint `student`; write it to `out`.

    Args:
        student: A checkpoint.
        store_folder: What is kept of the teacher; the recipe's model is then the student's own.
        data: A recipe, whose model is the teacher.
        prune_to: Share of the student's MACs to be left after training, if it is pruned meanwhile.
        more_texts: File of texts to learn from too, without labels.
        out: Output folder.
        seeds: One training each.
        as_json: Print JSON.
    """
    context = Context(make_recipe(data), Path())
    for folder in (student, context.model_source):
        check_checkpoint_target(out, folder)
    labelled = not isinstance(context.task, TextTask)
    context.check(SPLITS if labelled else ["train"])
    if more_texts is not None:
        context.add(more_texts)
    cost = CostModel(unit="macs", sequence=context.recipe.promised().sequence)
    gradual = None if prune_to is None else GradualSpec(share=prune_to, cost=cost)
    store = None if store_folder is None else open_cache(store_folder)
    school = School(context, student, store, gradual)
    validation = context.dataset("validation") if labelled else None
    with progress() as report:
        found = train_seeds(school.make, seeds, out, validation, school.teaching, report)
        teacher = {}
        if validation is not None and school.store is None:
            course = school.make(seeds[0]).course
            teacher = metrics_of(context.teacher, course, validation, report)
    print_trained("distilled", found, teacher, as_json=as_json)
