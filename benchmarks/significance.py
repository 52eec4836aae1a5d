"""Is a difference in accuracy real? Tests and intervals over examples and seeds. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.statistics import t_half_width
from benchmarks.tasks import METRICS

__all__ = ["kept_change", "mcnemar", "ratio", "retention_interval"]

Array = NDArray[np.float64]

RESAMPLES = 1000


def retention_interval(
    metric: str, labels: Array, teacher: Array, students: Sequence[Array], seed: int = 0
) -> tuple[float, float]:
    """95 % interval of what students keep on average, by paired percentile bootstrap.

    Examples are drawn for teacher and students alike. Where there are several students (seeds of
    one recipe), how they differ is added by Student's t, so that the interval is about the recipe
    and not about them.

    Args:
        metric: A name of `METRICS`.
        labels: True ones, `(examples,)`.
        teacher: Predictions, `(examples,)`.
        students: Predictions of each, `(examples,)`.
        seed: Of the resampling.
    """
    generator = np.random.default_rng(seed)
    compute = METRICS[metric]
    ratios = []
    for _ in range(RESAMPLES):
        rows = generator.integers(0, len(labels), len(labels))
        found = np.mean([compute(labels[rows], student[rows]) for student in students])
        ratios.append(ratio(compute(labels[rows], teacher[rows]), float(found)))
    low, high = (float(end) for end in np.quantile(ratios, [0.025, 0.975]))
    if len(students) == 1:
        return low, high
    base = compute(labels, teacher)
    kept = np.array([ratio(base, compute(labels, student)) for student in students])
    spread, value = t_half_width(kept), float(kept.mean())
    return value - math.hypot(value - low, spread), value + math.hypot(high - value, spread)


def kept_change(
    metric: str, labels: Array, teacher: Array, before: Array, after: Array, seed: int = 0
) -> tuple[float, float, float]:
    """How the kept share changed from one student to another, on the same examples.

    Args:
        metric: A name of `METRICS`.
        labels: True ones, `(examples,)`.
        teacher: Predictions, `(examples,)`.
        before: Predictions of the one student.
        after: Predictions of the other.
        seed: Of the resampling.

    Returns:
        Change of retention and its 95 % interval; exactly 0 where predictions are the same.
    """
    generator = np.random.default_rng(seed)
    compute = METRICS[metric]

    def change(rows: NDArray[np.int64]) -> float:
        base = compute(labels[rows], teacher[rows])
        now, then = (compute(labels[rows], values[rows]) for values in (after, before))
        return ratio(base, now) - ratio(base, then)

    n = len(labels)
    draws = [change(generator.integers(0, n, n)) for _ in range(RESAMPLES)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return change(np.arange(n)), float(low), float(high)


def mcnemar(labels: Array, teacher: Array, student: Array) -> float:
    """Probability of so uneven a change of right answers if none is real (exact, two-sided).

    Only examples count that one of the two gets right and the other wrong (McNemar 1947).

    Example:
        >>> truth = np.ones(20)
        >>> mcnemar(truth, truth, np.repeat([1.0, 0.0], 10))
        0.001953125
    """
    lost = int(((teacher == labels) & (student != labels)).sum())
    gained = int(((teacher != labels) & (student == labels)).sum())
    if lost + gained == 0:
        return 1.0
    return float(stats.binomtest(lost, lost + gained).pvalue)


def ratio(teacher: float, student: float) -> float:
    """Student over teacher; 0 where the teacher itself has nothing to keep."""
    return student / teacher if teacher > 0 else 0.0
