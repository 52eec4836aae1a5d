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
    "LEAST_ROUNDS",
    "carries",
    "drift",
    "effective_samples",
    "half_widths",
    "opening_spread",
    "paired_ratio",
    "percentile_interval",
    "samples_needed",
    "t_half_width",
]

Array = NDArray[np.float64]

RESAMPLES = 1000
_MEDIAN_ERROR = 1.82
"""Half-width of a median's 95 % interval, in quartile ranges over √n, for normal samples:
1.96 · √(π/2) over the 1.349 standard deviations between the quartiles."""
LEAST_ROUNDS = 6
"""Rounds below which not even the smallest and the largest bound a median with 95 % confidence."""
_UNKNOWN = 10.0
"""Factor, each way, of the interval of a ratio from fewer rounds: it decides nothing."""
_RUN = 10
"""Rounds that a disturbance is expected to last, where high percentiles are concerned."""
_LONGEST_LAG = 200


def percentile_interval(
    samples: ArrayLike, percent: float, parts: Sequence[int] = ()
) -> tuple[float, float]:
    """95 % interval of a percentile, from the order statistics.

    Free of any assumption about the distribution: the number of samples below the true percentile
    is binomial, over as many samples as the rounds are worth (`effective_samples`). Where there
    are too few to bound it, an end is 0 or infinite. From the 90th percentile on, a disturbance of
    ten rounds may be missing from a sample altogether: unless that has a chance of less than a
    tenth (`samples_needed`), there is no upper end.

    Args:
        samples: In the order in which they were taken.
        percent: Between 0 and 100.
        parts: Rounds of each opening, in order; all of one if left out.
    """
    values = np.asarray(samples, float)
    ordered, total, share = np.sort(values), len(values), percent / 100
    n = effective_samples(values, percent, parts)
    below = (int(stats.binom.ppf(0.025, n, share)) - 1) / n
    above = int(stats.binom.ppf(0.975, n, share)) / n
    low = float(ordered[int(below * total)]) if below >= 0 else 0.0
    unseen = percent >= 90 and total < samples_needed(percent)
    if above >= 1 or unseen:
        return low, math.inf
    return low, float(ordered[min(math.ceil(above * total), total - 1)])


def effective_samples(samples: ArrayLike, percent: float, parts: Sequence[int] = ()) -> int:
    """How many independent samples tell as much about a percentile; at least 1.

    Rounds that follow each other are alike, so n of them are worth n / τ, with τ the integrated
    autocorrelation time (Geyer 1992, initial monotone sequence), of ranks or of being beyond the
    percentile, whichever is longer. Openings are centred, and no pair of rounds spans two.

    Args:
        samples: In the order in which they were taken.
        percent: Between 0 and 100.
        parts: Rounds of each opening, in order; all of one if left out.
    """
    values = np.asarray(samples, float)
    n = len(values)
    beyond = (values > np.quantile(values, percent / 100)).astype(float)
    tau = max(_correlation_time(stats.rankdata(values), parts), _correlation_time(beyond, parts))
    if tau > 1.5:
        tau *= 1 + 2 / math.sqrt(n / tau)  # few independent runs show too little of it
    return max(int(n / tau), 1)


def _correlation_time(values: Array, parts: Sequence[int]) -> float:
    pieces = np.split(values, np.cumsum(parts)[:-1]) if len(parts) > 1 else [values]
    centred = [piece - piece.mean() for piece in pieces if len(piece)]
    power = sum(float((piece**2).sum()) for piece in centred)
    if power <= 0:
        return 1.0

    def alike(lag: int) -> float:
        return sum(float((p[:-lag] * p[lag:]).sum()) for p in centred if len(p) > lag) / power

    time, before = 1.0, math.inf
    for lag in range(1, min(max(map(len, centred)), _LONGEST_LAG) - 1, 2):
        pair = min(alike(lag) + alike(lag + 1), before)
        if pair <= 0:
            break
        time, before = time + 2 * pair, pair
    return time


def carries(n_samples: int, percent: float) -> bool:
    """Whether so many samples bound a percentile from above with 97.5 % confidence.

    Example:
        >>> [carries(100, p) for p in (50, 95, 99)]
        [True, True, False]
    """
    return n_samples >= math.log(0.025) / math.log(percent / 100)


def samples_needed(percent: float) -> int:
    """Samples that bound a percentile from above.

    Below the 90th, with 97.5 % confidence, and a third more. From there on so many that
    disturbances of ten rounds, which lift the percentile, are missing from a sample with a chance
    of less than a tenth.

    Example:
        >>> [samples_needed(p) for p in (50, 90, 95, 99)]
        [8, 219, 449, 2292]
    """
    if percent >= 90:
        return math.ceil(_RUN * math.log(0.1) / math.log(percent / 100))
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
    a ratio that changed half-way gets an interval that holds both halves. Fewer than
    `LEAST_ROUNDS` rounds bound nothing: the interval is then a factor of ten each way.

    Args:
        base: Samples by round, `(rounds,)`.
        other: Of the same rounds.
        parts: Rounds of each opening, in order; all of one if left out.
        seed: Of the resampling.

    Returns:
        Ratio, lower and upper end.
    """
    logs = np.log(np.asarray(base, float)) - np.log(np.asarray(other, float))
    if len(logs) < LEAST_ROUNDS:
        value = float(np.median(logs))
        low, high = value - math.log(_UNKNOWN), value + math.log(_UNKNOWN)
    elif len(parts) > 1:
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
