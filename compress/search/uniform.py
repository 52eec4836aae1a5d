"""Plans with the same number of heads and the same FFN width in every layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from compress.errors import BudgetError
from compress.plan.cost import ROUNDING, Prices
from compress.plan.plan import EncoderShape, Plan
from compress.search.options import LayerOptions, SearchUnit, allowed_counts, plan_of
from compress.search.plan_search import Problem

__all__ = ["cheapest_uniform", "is_uniform", "uniform_plan"]


def is_uniform(shape: EncoderShape) -> bool:
    """Whether all layers have the same number of heads, at least one, and the same FFN width."""
    return len(set(shape.n_heads)) == len(set(shape.ffn_widths)) == 1 and shape.n_heads[0] > 0


def uniform_plan(problem: Problem, head_counts: Sequence[int]) -> Plan:
    """The uniform plan with the least loss increase within the budget.

    Every allowed pair of head count and FFN width is tried; each layer keeps its own best units.

    Args:
        problem: What to plan; its shape is uniform.
        head_counts: Head counts to choose from.

    Raises:
        BudgetError: No uniform plan is within the budget.
    """
    prices, options, most = problem.prices, problem.options, problem.budget * (1 + ROUNDING)
    counts = options[0].attention.counts.tolist(), options[0].ffn.counts.tolist()
    sizes = [
        size for size in _sizes(*counts, head_counts) if _cost(problem.shape, prices, *size) <= most
    ]
    if not sizes:
        raise BudgetError(
            f"no uniform plan costs at most {problem.budget:.4g} {prices.unit}; raise the budget, "
            "or use layout 'free'"
        )

    best = min(sizes, key=lambda size: (_loss_increase(options, *size), -size[0], -size[1]))
    return plan_of(problem.shape, options, [best] * len(options))


def cheapest_uniform(
    shape: EncoderShape,
    prices: Prices,
    head_counts: Sequence[int],
    units: tuple[SearchUnit, ...],
    round_to: int,
) -> float:
    """The cost of the cheapest uniform plan.

    Args:
        shape: A uniform shape.
        prices: What sizes cost.
        head_counts: Head counts to choose from.
        units: What may be removed.
        round_to: FFN widths are multiples of it, or stay as they are.
    """
    heads = allowed_counts(shape.n_heads[0], 1, "heads" in units, False).tolist()
    widths = allowed_counts(shape.ffn_widths[0], round_to, "neurons" in units, False).tolist()
    return min(_cost(shape, prices, *size) for size in _sizes(heads, widths, head_counts))


def _sizes(
    heads: Sequence[int], widths: Sequence[int], head_counts: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Pairs of head count and FFN width that a uniform plan may have; something of each stays."""
    return product((n for n in heads if n in head_counts), (w for w in widths if w))


def _cost(shape: EncoderShape, prices: Prices, n_heads: int, width: int) -> float:
    each = float(prices.attention[n_heads] + prices.ffn[width])
    return prices.fixed + sum(prices.uses(shape)) * each


def _loss_increase(options: Sequence[LayerOptions], n_heads: int, width: int) -> float:
    return sum(o.attention.increase_at(n_heads) + o.ffn.increase_at(width) for o in options)
