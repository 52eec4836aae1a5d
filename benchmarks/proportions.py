"""Score intervals for two proportions of the same examples. Pure.

They are found by inverting a test at each candidate value, and so keep their width where the two
disagree nowhere: five examples on which student and teacher agree prove little.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

__all__ = ["Paired", "difference_interval", "ratio_interval"]

_Z = float(stats.norm.ppf(0.975))
_LARGEST = 1e4
"""A ratio beyond which no interval is followed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """How often two answerers were right on the same examples.

    Attributes:
        both: Examples that both got right.
        first: Examples that the first alone got right.
        second: Examples that the second alone got right.
        total: All examples.
    """

    both: int
    first: int
    second: int
    total: int

    @classmethod
    def count(cls, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Paired:
        """Count right answers, `(examples,)` each."""
        return cls(
            both=int((first & second).sum()),
            first=int((first & ~second).sum()),
            second=int((~first & second).sum()),
            total=len(first),
        )


def ratio_interval(counts: Paired) -> tuple[float, float]:
    """95 % interval of the second's share of right answers over the first's.

    The score interval of Nam and Blackwelder (2002, Statistics in Medicine 21, 689-699).

    Example:
        >>> low, high = ratio_interval(Paired(both=5, first=0, second=0, total=5))
        >>> round(low, 3), round(high, 3)
        (0.566, 1.768)
    """
    first, second = counts.both + counts.first, counts.both + counts.second
    if first == 0:
        return 0.0, _LARGEST
    value = max(second / first, 1e-9)
    low = 0.0 if second == 0 else _root(lambda r: _ratio_score(r, counts) - _Z, 1e-9, value)
    return low, _root(lambda r: _ratio_score(r, counts) + _Z, value, _LARGEST)


def difference_interval(counts: Paired) -> tuple[float, float]:
    """95 % interval of the second's share of right answers less the first's.

    The score interval of Tango (1998, Statistics in Medicine 17, 891-908).

    Example:
        >>> low, high = difference_interval(Paired(both=36, first=4, second=6, total=50))
        >>> round(low, 3), round(high, 3)
        (-0.094, 0.176)
    """
    value = (counts.second - counts.first) / counts.total
    edge = 1 - 1e-9
    low = _root(lambda d: _difference_score(d, counts) - _Z, -edge, value)
    return low, _root(lambda d: _difference_score(d, counts) + _Z, value, edge)


def _root(score: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses zero; the end that it does not reach, if it does not."""
    if score(low) <= 0:
        return low
    if score(high) >= 0:
        return high
    return float(optimize.brentq(score, low, high, xtol=1e-10))


def _ratio_score(ratio: float, counts: Paired) -> float:
    """The score statistic of a ratio, with the discordant shares that are likeliest under it."""
    n = counts.total
    only_first, only_second = counts.first / n, counts.second / n
    first, second = counts.both / n + only_first, counts.both / n + only_second
    neither = 1 - counts.both / n - only_first - only_second
    root = math.hypot(second - ratio**2 * first, 2 * ratio * math.sqrt(only_first * only_second))
    gained = (-second + ratio**2 * (first + 2 * only_second) + root) / (2 * ratio * (ratio + 1))
    lost = ratio * gained - (ratio - 1) * (1 - neither)
    variance = ratio * max(gained + lost, 1e-15)
    return math.sqrt(n) * (second - ratio * first) / math.sqrt(variance)


def _difference_score(difference: float, counts: Paired) -> float:
    """The score statistic of a difference, likewise."""
    n, b, c = counts.total, counts.second, counts.first
    slope = -b - c + (2 * n - b + c) * difference
    root = math.sqrt(max(slope**2 + 8 * n * c * difference * (1 - difference), 0.0))
    lost = (root - slope) / (4 * n)
    variance = n * (2 * lost + difference * (1 - difference))
    return (b - c - n * difference) / math.sqrt(max(variance, 1e-15))
