"""`distill`: train a student on what its teacher says, or on what a store kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.tasks import TextTask
from compress.checkpoint import load
from compress.cost import CostModel
from compress.distill.gradual import GradualSpec
from compress.distill.objective import Objective
from compress.distill.remember import tokenizer_hash
from compress.distill.store import Store, open_store
from compress.distill.teaching import Offline, Online, Teaching
from compress.plan import Plan
from compress_export.console import progress
from compress_export.context import SPLITS, Context
from compress_export.learning import (
    Course,
    came_from,
    check_tokenizers,
    data_hash,
    metrics_of,
    objective_of,
    train_spec,
)
from compress_export.loading import check_checkpoint_target, load_tokenizer
from compress_export.recipe import make_recipe
from compress_export.schooling import Pupil, print_trained, train_seeds


def run(
    student: str,
    store_folder: Path | None,
    data: dict[str, Any],
    prune_to: float | None,
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
        out: Output folder.
        seeds: One training each.
        as_json: Print JSON.
    """
    context = Context(make_recipe(data), Path())
    for folder in (student, context.model_source):
        check_checkpoint_target(out, folder)
    labelled = not isinstance(context.task, TextTask)
    context.check(SPLITS if labelled else ["train"])
    cost = CostModel(unit="macs", sequence=context.recipe.promised().sequence)
    gradual = None if prune_to is None else GradualSpec(share=prune_to, cost=cost)
    store = None if store_folder is None else open_store(store_folder)
    school = _School(context, student, store, gradual)
    validation = context.dataset("validation") if labelled else None
    with progress() as report:
        found = train_seeds(school.make, seeds, out, validation, school.teaching, report)
        teacher = {}
        if validation is not None and school.store is None:
            course = school.make(seeds[0]).course
            teacher = metrics_of(context.teacher, course, validation, report)
    print_trained("distilled; validation split", found, teacher, as_json=as_json)


class _School:
    """What all students of one teacher share.

    Args:
        context: Of the teacher; of the student itself where there is a store.
        student: A checkpoint.
        store: What is kept of the teacher.
        gradual: How students are pruned while they learn, if they are.
    """

    def __init__(
        self, context: Context, student: str, store: Store | None, gradual: GradualSpec | None
    ) -> None:
        self.context, self.student, self.store = context, student, store
        self.gradual = gradual
        self.tokenizer = load_tokenizer(student)
        part = context.recipe.recover.objective
        self.teaching: Teaching
        if store is None:
            check_tokenizers(self.tokenizer, context.tokenizer)
            heard = bool(part.attention or part.relations)
            self.teaching = Online(context.teacher, projections=heard)
        else:
            cut = context.recipe.benchmark.max_length
            store.check(
                data=data_hash(context.dataset("train").texts, cut),
                tokenizer=tokenizer_hash(self.tokenizer),
            )
            self.teaching = Offline(store.facts)

    def make(self, seed: int) -> Pupil:
        """An untrained student."""
        recipe, model = self.context.recipe, load(self.student)
        plan = None if self.store else came_from(model, self.context.teacher)
        course = Course(
            metrics=self.context.task.metrics,
            dataset=self.context.dataset("train"),
            tokenizer=self.tokenizer,
            max_length=recipe.benchmark.max_length,
            spec=train_spec(recipe.recover, seed),
            objective=self._objective(plan),
            store=self.store,
            gradual=self.gradual,
        )
        return Pupil(model=model, course=course, origin=plan)

    def _objective(self, plan: Plan | None) -> Objective:
        objective = objective_of(self.context.recipe.recover.objective, plan)
        if self.store is None:
            return objective
        pairs = self.store.facts.pairs
        return replace(objective, layers=pairs, hidden=objective.hidden if pairs else 0.0)
