"""What simpler ways of pruning give at the cost of a student, with the same repair."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from transformers import PreTrainedModel

from compress.errors import BudgetError, PlanError
from compress.model.batches import Progress
from compress.plan.cost import CostModel, encoder_macs
from compress.plan.plan import Plan
from compress.pruner.prune import prune
from compress.pruner.spec import PruneSpec
from compress_export.context import Context

__all__ = ["baselines"]


def baselines(
    context: Context, plan: Plan, progress: Progress
) -> Iterator[tuple[str, PreTrainedModel]]:
    """Students as small as `plan`'s in MACs: by chance, by magnitude, uniform, of fewer layers.

    Whole layers come as near to the MACs as they can. What a model's shape rules out is left out.
    """
    sequence = context.recipe.promised().sequence
    share = encoder_macs(plan.student_shape, sequence) / encoder_macs(plan.shape, sequence)
    spec = PruneSpec(
        score="fisher",
        steps=1,
        repair=context.recipe.prune.repair,
        damping=context.recipe.prune.damping,
        round_to=context.recipe.prune.round_to,
        seed=context.recipe.seed,
    )
    n_drop = min(max(1, round((1 - share) * plan.shape.depth)), plan.shape.depth - 1)
    kinds = {
        "random": replace(spec, score="random"),
        "magnitude": replace(spec, score="magnitude"),
        "uniform": replace(spec, layout="uniform"),
        "top layers dropped": replace(spec, drop=n_drop),
    }
    batches = context.calibration()
    cost = CostModel(unit="macs", sequence=sequence)
    for name, kind in kinds.items():
        ratio = 1.0 if kind.drop else share
        try:
            student = prune(context.teacher, batches, ratio, kind, cost=cost, progress=progress)
            yield name, student.model
        except (BudgetError, PlanError):
            continue
