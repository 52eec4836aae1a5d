"""What samples say: percentiles, ratios, drift, each with how sure one may be.

Pure: arrays in, numbers out. Must not know what was timed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = [
    "carries",
    "drift",
    "half_widths",
    "opening_spread",
    "paired_ratio",
    "percentile_interval",
    "samples_needed",
    "t_half_width",
]

Array = NDArray[np.float64]

RESAMPLES = 1000
_MEDIAN_ERROR = 1.57
"""Half-width of a median's 95 % interval, in quartile ranges over √n (McGill et al. 1978)."""


def percentile_interval(samples: ArrayLike, percent: float) -> tuple[float, float]:
    """95 % interval of a percentile, from the order statistics.

    Free of any assumption about the distribution: the number of samples below the true percentile
    is binomial. Where there are too few samples to bound it (see `carries`), an end is 0 or
    infinite.
    """
    ordered = np.sort(np.asarray(samples))
    n, share = len(ordered), percent / 100
    below = int(stats.binom.ppf(0.025, n, share)) - 1
    above = int(stats.binom.ppf(0.975, n, share))
    low = float(ordered[below]) if below >= 0 else 0.0
    return low, float(ordered[above]) if above < n else math.inf


def carries(n_samples: int, percent: float) -> bool:
    """Whether so many samples bound a percentile from above with 97.5 % confidence.

    Example:
        >>> [carries(100, p) for p in (50, 95, 99)]
        [True, True, False]
    """
    return n_samples >= math.log(0.025) / math.log(percent / 100)


def samples_needed(percent: float) -> int:
    """Samples that bound a percentile from above with 97.5 % confidence, and a third more.

    Example:
        >>> [samples_needed(p) for p in (50, 90, 95, 99)]
        [8, 47, 96, 490]
    """
    return math.ceil(4 / 3 * math.log(0.025) / math.log(percent / 100))


def paired_ratio(
    base: ArrayLike, other: ArrayLike, parts: Sequence[int] = (), seed: int = 0
) -> tuple[float, float, float]:
    """Typical ratio ``base / other`` within a round, and its 95 % interval.

    Both are taken from one round, so that what slows a round slows both and cancels. Rounds are
    resampled in circular blocks of about ∛n (Politis and Romano 1992), because what disturbs one
    often disturbs the next. That is the luck of the rounds; there is also that of the opening:
    where a session's memory and threads come to lie makes it a percent faster or slower until it
    is closed. So contenders are opened several times, the medians of the openings are averaged,
    and their own spread (Student's t) widens the interval where it says more. With one opening,
    a ratio that changed half-way gets an interval that holds both halves.

    Args:
        base: Samples by round, `(rounds,)`.
        other: Of the same rounds.
        parts: Rounds of each opening, in order; all of one if left out.
        seed: Of the resampling.

    Returns:
        Ratio, lower and upper end.
    """
    logs = np.log(np.asarray(base, float)) - np.log(np.asarray(other, float))
    if len(parts) > 1:
        value, low, high = _over_openings(np.split(logs, np.cumsum(parts)[:-1]), seed)
    else:
        value, (low, high) = float(np.median(logs)), _over_halves(logs, seed)
    return math.exp(value), math.exp(low), math.exp(high)


def opening_spread(logs: ArrayLike, parts: Sequence[int]) -> float:
    """Factor by which a median may be off for the luck of openings alone; 1 with one of them.

    Args:
        logs: Logarithms of seconds, `(rounds,)`.
        parts: Rounds of each opening, in order.
    """
    if len(parts) < 2:
        return 1.0
    openings = np.split(np.asarray(logs, float), np.cumsum(parts)[:-1])
    return math.exp(t_half_width(np.array([np.median(part) for part in openings])))


def drift(samples: ArrayLike) -> float:
    """Relative change of the median from the first half to the second; 0 below 8 samples.

    Example:
        >>> round(drift([1.0] * 10 + [1.1] * 10), 3)
        0.1
    """
    values = np.asarray(samples, float)
    half = len(values) // 2
    if half < 4:
        return 0.0
    return float(np.median(values[half:]) / np.median(values[:half])) - 1.0


def half_widths(rounds: ArrayLike, absolute: bool = False) -> Array:
    """Relative half-width of each contender's median, from the quartiles of log seconds.

    Args:
        rounds: Seconds, `(rounds, contenders)`.
        absolute: Count what slows a whole round too; else samples are compared within rounds.

    Returns:
        One a contender. Rounds are centred on their mean, of which each column is itself a part: n
        columns show only √((n − 1)/n) of their own spread, which is put back.
    """
    logs = np.log(np.asarray(rounds, float))
    n_rounds, n_columns = logs.shape
    if not absolute and n_columns > 1:
        centred = logs - logs.mean(axis=1, keepdims=True)
        logs = centred * math.sqrt(n_columns / (n_columns - 1))
    low, high = np.quantile(logs, [0.25, 0.75], axis=0)
    widths: Array = _MEDIAN_ERROR * (high - low) / math.sqrt(n_rounds)
    return widths


def t_half_width(values: Array) -> float:
    """Half-width of the 95 % interval of a mean of few values, by Student's t."""
    k = len(values)
    return float(stats.t.ppf(0.975, k - 1) * values.std(ddof=1) / math.sqrt(k))


def _over_openings(openings: Sequence[Array], seed: int) -> tuple[float, float, float]:
    medians = np.array([np.median(part) for part in openings])
    value = float(medians.mean())
    centred = np.concatenate([p - m for p, m in zip(openings, medians, strict=True)])
    low, high = _bootstrap(centred, seed)
    spread = t_half_width(medians)
    return value, value + min(low, -spread), value + max(high, spread)


def _over_halves(logs: Array, seed: int) -> tuple[float, float]:
    low, high = _bootstrap(logs, seed)
    half = len(logs) // 2
    if half < 8:  # fewer rounds bound no median
        return low, high
    early, late = _bootstrap(logs[:half], seed), _bootstrap(logs[half:], seed)
    if early[1] < late[0] or late[1] < early[0]:
        return min(early[0], late[0]), max(early[1], late[1])
    return low, high


def _bootstrap(values: Array, seed: int) -> tuple[float, float]:
    """95 % interval of the median, rounds resampled in circular blocks."""
    n = len(values)
    block = max(1, round(n ** (1 / 3)))
    starts = np.random.default_rng(seed).integers(0, n, (RESAMPLES, math.ceil(n / block)))
    rows = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :n] % n
    low, high = np.quantile(np.median(values[rows], axis=1), [0.025, 0.975])
    return float(low), float(high)
