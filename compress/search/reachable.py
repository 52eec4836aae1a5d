"""What can be reached at all, before any work: the cheapest student, and enough data to fit it."""

from __future__ import annotations

import math

import numpy as np

from compress.errors import BudgetError, DataError
from compress.plan.cost import ROUNDING, CostUnit, Prices
from compress.plan.plan import EncoderShape
from compress.search.options import SearchUnit, allowed_counts

__all__ = ["cheapest", "check_enough", "check_reachable", "tokens_needed"]

_ENOUGH = 2
"""Tokens that a least-squares fit wants for each unknown."""


def cheapest(
    shape: EncoderShape, prices: Prices, units: tuple[SearchUnit, ...], round_to: int
) -> float:
    """What the cheapest student costs that a model of that shape can become.

    A head or some neurons stay: an encoder of norms alone gives the same for every text.
    """
    least, more = [], []
    for uses, heads, width in zip(prices.uses(shape), shape.n_heads, shape.ffn_widths, strict=True):
        parts = (
            (prices.attention, allowed_counts(heads, 1, "heads" in units, "sublayers" in units)),
            (prices.ffn, allowed_counts(width, round_to, "neurons" in units, "sublayers" in units)),
        )
        least.append(uses * sum(float(curve[counts[0]]) for curve, counts in parts))
        empty = all(counts[0] == 0 for _, counts in parts)
        steps = [float(curve[counts[1]] - curve[0]) for curve, counts in parts if len(counts) > 1]
        more.append(uses * min(steps, default=np.inf) if empty else 0.0)
    if "layers" in units and not shape.groups:
        return prices.fixed + min(a + b for a, b in zip(least, more, strict=True))
    return prices.fixed + sum(least) + (min(more) if np.isfinite(min(more)) else 0.0)


def check_reachable(
    budget: float, floor: float, dense: float, unit: CostUnit, units: tuple[SearchUnit, ...]
) -> None:
    """Refuse a budget below the cheapest student, both told as shares of the unpruned model.

    Raises:
        BudgetError: Names the cheapest.
    """
    if budget < floor * (1 - ROUNDING):
        least = math.ceil(floor / dense * 1e4) / 1e4
        raise BudgetError(
            f"the share of {unit} must be at least {least:.4f}, the smallest that removing "
            f"{', '.join(units) or 'nothing'} can reach, found {budget / dense:.4g}; raise it, or "
            "let more go (`units`)"
        )


def tokens_needed(shape: EncoderShape) -> int:
    """Twice the unknowns of the widest projection: fewer leave its least squares unstable."""
    widest = max(*shape.ffn_widths, *(n * shape.head_width for n in shape.n_heads))
    return _ENOUGH * (widest + 1)


def check_enough(shape: EncoderShape, tokens: int, sequences: int) -> None:
    """Refuse data that leaves the least-squares problems under-determined.

    Args:
        shape: The model's shape.
        tokens: Number of tokens to fit on.
        sequences: Number of sequences that hold them.

    Raises:
        DataError: Says how many examples would do.
    """
    needed = tokens_needed(shape)
    if tokens < needed:
        enough = math.ceil(sequences * needed / max(tokens, 1) * 16 / 15 / 32) * 32
        raise DataError(
            f"calibration needs {needed} tokens for a stable solution, twice the "
            f"{needed // _ENOUGH} unknowns of the widest projection, found {tokens} in {sequences} "
            f"examples; about {enough} examples would do; give more data "
            "(`calibration_examples`)"
        )
