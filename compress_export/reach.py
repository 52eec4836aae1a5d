"""From a recipe's target to a student: which method, which prices, which precision."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from benchmarks.profile import Effort
from benchmarks.runtimes.onnxruntime import OrtModel
from compress.errors import BudgetError, ToolchainError
from compress.model.batches import Progress
from compress.model.binding import bind
from compress.plan.plan import Plan
from compress.pruner.pruner import PrunedModel
from compress.saliency.scorers import Scores
from compress_export.context import Context
from compress_export.goal import Goal
from compress_export.promise import Attempt, Promise, Stopwatch
from compress_export.quality import Yardstick, can_judge
from compress_export.recipe import Recipe
from export.exporter import export_graphs
from export.precision.variants import Variant

__all__ = ["Reached", "promise_of", "rank", "reach"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """A student that meets the recipe's target, or comes as near as could be.

    Attributes:
        model, plan: The student.
        variant: The one that won, where precisions competed; else the recipe's reference.
        scores: Of the last step, for methods that give values.
        attempts: What was measured on the way, where the target is a latency, of all precisions
            that competed.
        error: On held-out calibration data.
    """

    model: PreTrainedModel
    plan: Plan
    variant: Variant
    scores: Scores | None = None
    attempts: tuple[Attempt, ...] = ()
    error: float | None = None

    @property
    def own_attempts(self) -> list[Attempt]:
        """The winner's."""
        return [a for a in self.attempts if a.variant == self.variant.name]

    @property
    def missed(self) -> Attempt | None:
        """The winner's last attempt, where it did not meet the promised latency."""
        own = self.own_attempts
        return own[-1] if own and not own[-1].kept else None

    def facts(self) -> dict[str, Any]:
        """What the report tells of it."""
        return {
            "variant": self.variant.name,
            "calibration_error": self.error,
            "attempts": [attempt.to_dict() for attempt in self.attempts],
        }


def reach(context: Context, progress: Progress) -> Reached:
    """Make the student that the context's recipe asks for.

    Raises:
        BudgetError: Nothing that may go gets there; the message names what can be reached.
    """
    recipe = context.recipe
    goal = recipe.goal()
    if goal is not None:
        return _kept(context, goal, progress)
    pruned = context.pruner(context.counted(), progress).prune_to(context.budget())
    return _reached(pruned, _judged_variant(recipe))


def _judged_variant(recipe: Recipe) -> Variant:
    """The variant that figures are about where none compete."""
    measured = recipe.variants()
    return recipe.reference() if recipe.reference() in measured else measured[0]


def promise_of(
    context: Context, variants: tuple[Variant, ...], folder: Path, progress: Progress
) -> dict[str, Promise]:
    """The promises that each of `variants` makes with one pruner, by its name.

    Args:
        context: Whose target is a latency.
        variants: What students ship as.
        folder: Where the unpruned model's graph is written, for comparison.
        progress: Told how far each step is.
    """
    recipe = context.recipe
    reference = recipe.reference()
    shape = bind(context.teacher).shape
    # First, for it refuses data that a measurement of minutes would be wasted on.
    pruner = context.pruner(context.counted(), progress)
    needed = tuple(dict.fromkeys([reference, *variants]))
    tables = context.tables(needed, Effort(), progress)
    dense_ms = tables[reference.name].prices(context.mix).total(shape)
    dense = folder / reference.name / "model.onnx"
    export_graphs(context.teacher, context.names, [reference], [dense])
    watch = Stopwatch(
        dense=dense,
        provider=reference.provider,
        mix=context.mix,
        vocab_size=int(context.teacher.config.vocab_size),
    )
    feeds = context.feeds_for(variants)
    promises: dict[str, Promise] = {
        variant.name: Promise(
            pruner, tables[variant.name], dense_ms, watch, variant, context.names, feeds
        )
        for variant in variants
    }
    return promises


def _kept(context: Context, goal: Goal, progress: Progress) -> Reached:
    """The best of the precisions that compete; the fastest comes first, for it prunes least."""
    with tempfile.TemporaryDirectory(prefix="compress-export-") as folder:
        promises = promise_of(context, context.recipe.candidates(), Path(folder), progress)
        dense = bind(context.teacher).shape
        candidates = sorted(
            context.recipe.candidates(),
            key=lambda v: promises[v.name].table.prices(context.mix).total(dense),
        )
        reached: list[Reached] = []
        refused: dict[str, BudgetError] = {}
        for variant in candidates:
            try:
                member, attempts = promises[variant.name].keep(goal)
            except BudgetError as error:
                refused[variant.name] = error
                continue
            reached.append(_reached(member, variant, tuple(attempts)))
        if not reached:
            fastest = min(promises, key=lambda name: promises[name].floor_ms())
            kept = _kept_by_the_fastest(context, promises[fastest])
            raise BudgetError(f"{refused[fastest]}{kept}") from refused[fastest]
    best = min(reached, key=lambda r: rank(r, goal))
    return replace(best, attempts=tuple(a for r in reached for a in r.attempts))


def rank(reached: Reached, goal: Goal) -> tuple[bool, float]:
    """Those that keep the promise come first, by their error; others by how far they missed."""
    last = reached.attempts[-1]
    if last.kept:
        return False, reached.error or 0.0
    return True, last.measured_ms / goal.budget_ms(last.dense_ms)


def _kept_by_the_fastest(context: Context, promise: Promise) -> str:
    """What the fastest student within reach keeps, measured; for heads that can be judged."""
    try:
        return _judged(context, promise) if can_judge(context.teacher) else ""
    except ToolchainError:  # no data to judge by, say: what it keeps is a courtesy
        return ""


def _judged(context: Context, promise: Promise) -> str:
    with tempfile.TemporaryDirectory(prefix="compress-export-") as folder:
        graph = Path(folder) / "model.onnx"
        student = promise.fastest().model
        export_graphs(student, context.names, [promise.variant], [graph], promise.feeds)
        yardstick = Yardstick(context, OrtModel(promise.watch.dense, promise.watch.provider))
        kept = yardstick.kept(OrtModel(graph, promise.variant.provider))
    return f"; that student would keep {kept['retention']:.1%} of {yardstick.metric}"


def _reached(pruned: PrunedModel, variant: Variant, attempts: tuple[Attempt, ...] = ()) -> Reached:
    return Reached(
        model=pruned.model,
        plan=pruned.plan,
        variant=variant,
        scores=pruned.scores,
        attempts=attempts,
        error=attempts[-1].error if attempts else pruned.error,
    )
