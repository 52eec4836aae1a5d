"""Choose one option for each item so that costs stay within a budget and the loss grows least.

The multiple-choice knapsack, by dynamic programming over discretised cost. Pure numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.plan.cost import ROUNDING

__all__ = ["Item", "choose"]

Array = NDArray[np.float64]

BUCKETS = 4000


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """Something of which one option is taken: cost and loss increase of each, `(options,)`."""

    cost: Array
    loss_increase: Array


def choose(items: Sequence[Item], budget: float, buckets: int = BUCKETS) -> list[int] | None:
    """The option of each item that together increase the loss least within a budget.

    What an option costs beyond the cheapest of its item is rounded up to a `buckets`-th of what the
    budget leaves, so that a choice never costs more than it says; what rounding forgoes is at most
    one bucket per item.

    Args:
        items: Items, in any order.
        budget: The most that all chosen options may cost together.
        buckets: Number of buckets of the discretised cost.

    Returns:
        One index an item, or `None` where even the cheapest options cost more.

    Example:
        >>> dear = Item(cost=np.array([0.0, 1.0]), loss_increase=np.array([5.0, 0.0]))
        >>> cheap = Item(cost=np.array([0.0, 1.0]), loss_increase=np.array([1.0, 0.0]))
        >>> choose([dear, cheap], 1.0)
        [1, 0]
    """
    floors = [float(item.cost.min()) for item in items]
    left = budget * (1 + ROUNDING) - sum(floors)
    if left < 0:
        return None
    best = [int(item.loss_increase.argmin()) for item in items]
    if sum(item.cost[i] for item, i in zip(items, best, strict=True)) <= budget * (1 + ROUNDING):
        return best
    if left == 0:
        return [int(item.cost.argmin()) for item in items]
    units = [
        np.ceil((item.cost - floor) / left * buckets - 1e-9).astype(int)
        for item, floor in zip(items, floors, strict=True)
    ]
    least = np.zeros(buckets + 1)
    taken = []
    for item, cost in zip(items, units, strict=True):
        least, option = _take(least, cost, item.loss_increase)
        taken.append(option)
    picks, spent = [], buckets
    for option, cost in zip(reversed(taken), reversed(units), strict=True):
        picks.append(int(option[spent]))
        spent -= int(cost[picks[-1]])
    return picks[::-1]


def _take(
    least: Array, cost: NDArray[np.int64], loss_increase: Array
) -> tuple[Array, NDArray[np.int64]]:
    """Least loss increase by cost spent once one more item is in, and the option that gives it."""
    best = np.full(len(least), np.inf)
    option = np.zeros(len(least), np.int64)
    for index, (price, damage) in enumerate(zip(cost, loss_increase, strict=True)):
        if price >= len(least):
            continue
        candidate = np.full(len(least), np.inf)
        candidate[price:] = least[: len(least) - price] + damage
        better = candidate < best
        best[better], option[better] = candidate[better], index
    return best, option
