"""What can be reached at all, before any work: the cheapest student, and enough data to fit it."""

from __future__ import annotations

import math

from compress.errors import BudgetError, DataError
from compress.plan.cost import CostUnit, Prices
from compress.plan.plan import EncoderShape
from compress.search.options import SearchUnit, allowed_counts

__all__ = ["cheapest", "check_enough", "check_reachable", "tokens_needed"]

_ROUNDING = 1e-9
_ENOUGH = 2
"""Tokens that a least-squares fit wants for each unknown."""


def cheapest(
    shape: EncoderShape, prices: Prices, units: tuple[SearchUnit, ...], multiple: int
) -> float:
    """What the cheapest student costs that a model of that shape can become."""
    whole = "sublayers" in units
    layers, extra = [], []
    for uses, heads, width in zip(shape.uses, shape.n_heads, shape.ffn_widths, strict=True):
        few_heads, *_ = sizes = allowed_counts(heads, 1, "heads" in units, whole)
        narrow, *_ = widths = allowed_counts(width, multiple, "neurons" in units, whole)
        layers.append(uses * (prices.attention[few_heads] + prices.ffn[narrow]))
        # Something has to be left: an encoder of norms alone gives the same for every text.
        for curve, counts in ((prices.attention, sizes), (prices.ffn, widths)):
            empty = few_heads == narrow == 0 and len(counts) > 1
            extra.append(uses * (curve[counts[1]] - curve[0]) if empty else 0.0)
    droppable = "layers" in units and not shape.groups
    kept = min(layers) if droppable else sum(layers)
    return prices.fixed + float(kept + min(extra))


def check_reachable(
    budget: float, floor: float, dense: float, unit: CostUnit, units: tuple[SearchUnit, ...]
) -> None:
    """Refuse a budget below the cheapest student, both told as shares of the unpruned model.

    Raises:
        BudgetError: Names the cheapest.
    """
    if budget < floor * (1 - _ROUNDING):
        least = math.ceil(floor / dense * 1e4) / 1e4
        raise BudgetError(
            f"the share of {unit} must be at least {least:.4f}, the smallest that removing "
            f"{', '.join(units)} can reach, found {budget / dense:.4g}; raise it, or let more go "
            "(`units`)"
        )


def tokens_needed(shape: EncoderShape) -> int:
    """Twice the unknowns of the widest projection: fewer leave its least squares unstable."""
    widest = max(*shape.ffn_widths, *(n * shape.head_width for n in shape.n_heads))
    return _ENOUGH * (widest + 1)


def check_enough(shape: EncoderShape, tokens: int, sequences: int) -> None:
    """Refuse data that leaves the least-squares problems under-determined.

    Args:
        shape: Of the model.
        tokens: That there are to fit on.
        sequences: That hold them.

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
