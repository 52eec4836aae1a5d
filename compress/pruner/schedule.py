"""How the way to a budget is divided into steps, and how much data each step looks at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from compress.errors import BudgetError, DataError, SpecError
from compress.model.batches import Batches, first_within, n_sequences, n_tokens
from compress.model.layout import Layout
from compress.plan.cost import ROUNDING, Prices
from compress.plan.plan import EncoderShape
from compress.plan.stock_config import stock_head_counts
from compress.pruner.spec import PruneSpec
from compress.search.depth import drop_layers
from compress.search.reachable import cheapest, check_enough, check_reachable
from compress.search.uniform import cheapest_uniform, is_uniform

__all__ = [
    "after_drop",
    "cheapest_cost",
    "check_amount",
    "check_budget",
    "check_shape",
    "check_types",
    "head_counts",
    "is_near",
    "looked_at",
    "split_held_out",
    "step_costs",
]

_MOST, _A_LITTLE = 0.25, 0.25
_NEAR = 0.1
_LEAST_TOKENS = 30_000
_SCORE_STEPS = 6


def split_held_out(batches: Batches, spec: PruneSpec) -> tuple[Batches, Batches]:
    """The batches that students' errors are measured on, and those that fits look at."""
    count = max(1, int(len(batches) * spec.held_out)) if spec.held_out else 0
    return batches[:count], batches[count:]


def looked_at(seen: Batches, spec: PruneSpec) -> Batches:
    """The batches that scores, and repairs before the last step, look at."""
    if spec.tokens is not None:
        return first_within(seen, spec.tokens)
    if spec.score not in ("obs", "kprune"):
        return seen
    return first_within(seen, max(_LEAST_TOKENS, sum(map(n_tokens, seen)) // 3))


def check_amount(shape: EncoderShape, batches: Batches, seen: Batches, spec: PruneSpec) -> None:
    """Refuse too little calibration data.

    Args:
        shape: The unpruned model's shape.
        batches: All calibration data.
        seen: Those of them that fits look at.
        spec: How to prune.

    Raises:
        DataError: There are none, too few tokens for the least squares, or none are left to fit on.
    """
    if not batches:
        raise DataError("calibration needs at least one batch, found none; give it data")
    fitted = seen or batches
    sequences = sum(map(n_sequences, fitted))
    if spec.repair or spec.score == "obs":
        check_enough(shape, sum(map(n_tokens, fitted)), sequences)
    if not seen:
        raise DataError(
            f"calibration needs two batches or more, one to fit on and one to judge by, found "
            f"{len(batches)} of {sequences} examples; give another batch, or hold nothing out "
            "(`held_out` 0)"
        )


def check_types(prices: object, spec: object, batches: Batches) -> None:
    """Refuse arguments of other types, in the words of their fields.

    Raises:
        SpecError: Prices or the spec are something else.
        DataError: The batches are no sequence of mappings of tensors.
    """
    if not isinstance(prices, Prices):
        raise SpecError(
            f"prices: {type(prices).__name__} is not Prices; take CostModel(unit=...).prices(shape)"
            " or a latency table's prices(mix)"
        )
    if spec is not None and not isinstance(spec, PruneSpec):
        raise SpecError(f"spec: {spec!r} is not a PruneSpec; write PruneSpec(score=...)")
    fits = isinstance(batches, Sequence) and all(
        isinstance(batch, Mapping)
        and all(isinstance(batch.get(name), Tensor) for name in ("input_ids", "attention_mask"))
        for batch in batches
    )
    if not fits:
        raise DataError(
            "batches must be a sequence of mappings with the tensors 'input_ids' and "
            f"'attention_mask', found {batches!r:.60}; `calibration_batches` makes them"
        )


def step_costs(now: float, budget: float, spec: PruneSpec) -> tuple[float, ...]:
    """What the student may cost after each step: falls geometrically to the budget.

    Empty where the present cost is within the budget.

    Example:
        >>> [round(cost, 3) for cost in step_costs(1.0, 0.5, PruneSpec(steps=2))]
        [0.707, 0.5]
    """
    if now <= budget * (1 + ROUNDING):
        return ()
    n_steps = 1 if is_near(now, budget) else spec.steps or _default_steps(now, budget, spec)
    return tuple(max(now * (budget / now) ** (i / n_steps), budget) for i in range(1, n_steps + 1))


def _default_steps(now: float, budget: float, spec: PruneSpec) -> int:
    if spec.score == "kprune":
        return 1
    if spec.score != "obs":
        return _SCORE_STEPS
    return max(1, math.ceil(math.log(now / budget) / -math.log(1 - _MOST) - _A_LITTLE))


def is_near(now: float, budget: float) -> bool:
    """Whether so little is to be removed, as after a missed target, that a search finds nothing."""
    return budget > (1 - _NEAR) * now


def cheapest_cost(layout: Layout, shape: EncoderShape, prices: Prices, spec: PruneSpec) -> float:
    """The cost of the cheapest student within reach.

    Args:
        layout: The unpruned model.
        shape: The student's present shape.
        prices: What sizes cost.
        spec: How to prune.
    """
    if spec.layout == "free":
        return cheapest(shape, prices, spec.removable, spec.round_to)
    return cheapest_uniform(shape, prices, head_counts(layout), spec.removable, spec.round_to)


def check_budget(
    layout: Layout, shape: EncoderShape, prices: Prices, budget: float, spec: PruneSpec
) -> None:
    """Refuse a budget that no plan can meet.

    Args:
        layout: The unpruned model.
        shape: The student's present shape; after `after_drop`, where layers are dropped first.
        prices: What sizes cost.
        budget: The most that the student may cost, in the unit of `prices`.
        spec: How to prune.

    Raises:
        SpecError: The budget is no positive number.
        BudgetError: Names the cheapest cost within reach.
    """
    if not (math.isfinite(budget) and budget > 0):
        raise SpecError(f"the budget {budget!r} is not a number above 0; correct it")
    if prices.total(shape) <= budget:
        return
    least = cheapest_cost(layout, shape, prices, spec)
    check_reachable(budget, least, prices.total(layout.shape), prices.unit, spec.removable)


def check_shape(layout: Layout, spec: PruneSpec) -> None:
    """Refuse what a model's shape rules out, whatever the budget.

    Raises:
        PlanError: There are not so many layers to drop.
        BudgetError: A uniform student is asked for of a model whose layers differ.
    """
    shape = after_drop(layout, spec)
    if spec.layout == "uniform" and not is_uniform(shape):
        raise BudgetError(
            "`layout` 'uniform' needs a model whose layers are alike, found heads "
            f"{shape.n_heads} and FFN widths {shape.ffn_widths}; use 'free', or the unpruned model"
        )


def after_drop(layout: Layout, spec: PruneSpec) -> EncoderShape:
    """The shape once layers are dropped; strategies that look at data drop as many as `top`."""
    by_data = spec.strategy in ("contribution", "leave-one-out")
    return drop_layers(layout, spec.drop, "top" if by_data else spec.strategy).student_shape


def head_counts(layout: Layout) -> tuple[int, ...]:
    """Uniform head counts to choose from: those that a stock config can express, or all."""
    if layout.architecture.head_keys:
        return stock_head_counts(layout.architecture, layout.shape)
    return tuple(range(1, max(layout.shape.n_heads) + 1))
