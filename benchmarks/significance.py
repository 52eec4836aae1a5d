"""Is a difference in accuracy real? Tests and intervals over examples and seeds. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.proportions import Paired, difference_interval, ratio_interval
from benchmarks.statistics import t_half_width
from benchmarks.tasks import METRICS

__all__ = ["LEAST_EXAMPLES", "kept_change", "mcnemar", "ratio", "retention_interval"]

Array = NDArray[np.float64]
_Statistic: TypeAlias = Callable[[Array, Sequence[Array]], float]
"""From labels and predictions of everyone to a number."""

RESAMPLES = 1000
LEAST_EXAMPLES = 30
"""Examples below which no interval is given for a metric that is not a share of right answers."""
_GROUPS = 100
_DISCORDANT = 1.0
"""Mean of the disagreements that are added on each side: none seen does not mean that there are
none. Their rate is drawn too, so that up to five are not rare."""


def retention_interval(
    metric: str, labels: Array, teacher: Array, students: Sequence[Array], seed: int = 0
) -> tuple[float, float]:
    """95 % interval of what students keep on average, on the same examples as their teacher.

    Of accuracy, the score interval of a ratio of paired proportions (`ratio_interval`). Of other
    metrics, a bias-corrected and accelerated bootstrap (Efron 1987) over examples; of those that
    compare classes, with disagreements added on each side. Below `LEAST_EXAMPLES` such an
    interval is unbounded for all purposes: from 0 to twice what could be kept.

    Where there are several students (seeds of one recipe), how they differ is added by Student's
    t, so that the interval is about the recipe and not about them.

    Args:
        metric: A name of `METRICS`.
        labels: True ones, `(examples,)`.
        teacher: Predictions, `(examples,)`.
        students: Predictions of each, `(examples,)`.
        seed: Of the resampling.
    """
    compute = METRICS[metric]
    base = compute(labels, teacher)
    kept = np.array([ratio(base, compute(labels, student)) for student in students])
    ends = [_one_interval(metric, labels, teacher, student, seed) for student in students]
    if len(students) == 1:
        return ends[0]
    low, high = np.mean(ends, axis=0)
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
        Change of retention and its 95 % interval. Of accuracy, Tango's score interval over the
        teacher's own accuracy; of other metrics as in `retention_interval`.
    """
    compute = METRICS[metric]
    base = compute(labels, teacher)

    def change(truth: Array, found: Sequence[Array]) -> float:
        there = compute(truth, found[0])
        return ratio(there, compute(truth, found[2])) - ratio(there, compute(truth, found[1]))

    value = change(labels, [teacher, before, after])
    if metric == "accuracy":
        counts = Paired.count(before == labels, after == labels)
        low, high = difference_interval(counts)
        return (value, low / base, high / base) if base > 0 else (value, -1.0, 1.0)
    if len(labels) < LEAST_EXAMPLES:
        return value, -1.0, 1.0
    return value, *_bca(change, metric, labels, [teacher, before, after], seed)


def mcnemar(labels: Array, teacher: Array, student: Array) -> float:
    """Probability of so uneven a change of right answers if none is real (exact, two-sided).

    Only examples count that one of the two gets right and the other wrong (McNemar 1947).

    Example:
        >>> truth = np.ones(20)
        >>> mcnemar(truth, truth, np.repeat([1.0, 0.0], 10))
        0.001953125
    """
    counts = Paired.count(teacher == labels, student == labels)
    if counts.first + counts.second == 0:
        return 1.0
    return float(stats.binomtest(counts.first, counts.first + counts.second).pvalue)


def ratio(teacher: float, student: float) -> float:
    """Student over teacher; 0 where the teacher itself has nothing to keep."""
    return student / teacher if teacher > 0 else 0.0


def _one_interval(
    metric: str, labels: Array, teacher: Array, student: Array, seed: int
) -> tuple[float, float]:
    compute = METRICS[metric]

    def kept(truth: Array, found: Sequence[Array]) -> float:
        return ratio(compute(truth, found[0]), compute(truth, found[1]))

    if metric == "accuracy":
        return ratio_interval(Paired.count(teacher == labels, student == labels))
    if len(labels) < LEAST_EXAMPLES:
        return 0.0, 2 * max(1.0, kept(labels, [teacher, student]))
    return _bca(kept, metric, labels, [teacher, student], seed)


def _bca(
    statistic: _Statistic, metric: str, labels: Array, answers: Sequence[Array], seed: int
) -> tuple[float, float]:
    """95 % interval by the bias-corrected and accelerated bootstrap over examples.

    The acceleration is taken from leaving out groups of examples, a hundred at most.
    """
    generator = np.random.default_rng(seed)
    n, value = len(labels), statistic(labels, answers)
    classes = np.unique(labels) if metric in ("f1", "matthews") else None
    draws = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        rows = generator.integers(0, n, n)
        truth, found = labels[rows], [answer[rows] for answer in answers]
        if classes is not None and len(classes) > 1:
            truth, found = _disagreeing(truth, found, classes, generator)
        draws[i] = statistic(truth, found)
    below = (draws < value).mean() + 0.5 * (draws == value).mean()
    shift = float(stats.norm.ppf(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES)))
    acceleration = _acceleration(statistic, labels, answers)
    ends = []
    for z in stats.norm.ppf([0.025, 0.975]):
        moved = shift + (shift + z) / (1 - acceleration * (shift + z))
        ends.append(float(np.quantile(draws, stats.norm.cdf(moved))))
    return ends[0], ends[1]


def _acceleration(statistic: _Statistic, labels: Array, answers: Sequence[Array]) -> float:
    groups = np.array_split(np.random.default_rng(0).permutation(len(labels)), _GROUPS)
    found = []
    for group in groups:
        if len(group) and len(group) < len(labels):
            rest = np.delete(np.arange(len(labels)), group)
            found.append(statistic(labels[rest], [answer[rest] for answer in answers]))
    away = np.mean(found) - np.array(found)
    spread = float(np.square(away).sum()) ** 1.5
    return float((away**3).sum()) / (6 * spread) if spread > 0 else 0.0


def _disagreeing(
    labels: Array, answers: Sequence[Array], classes: Array, generator: np.random.Generator
) -> tuple[Array, list[Array]]:
    """The same with further examples on which the last two answerers disagree.

    On each side their number is drawn with the mean `_DISCORDANT`; others answer them rightly.
    """
    sides = generator.poisson(generator.exponential(_DISCORDANT, 2))
    truth = generator.choice(labels, int(sides.sum()))
    others = np.array([generator.choice(classes[classes != label]) for label in truth])
    right_first = np.arange(len(truth)) < sides[0]
    added = [truth] * (len(answers) - 2)
    added += [np.where(right_first, truth, others), np.where(right_first, others, truth)]
    joined = [np.concatenate([a, more]) for a, more in zip(answers, added, strict=True)]
    return np.concatenate([labels, truth]), joined
