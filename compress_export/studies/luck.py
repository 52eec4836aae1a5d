"""What luck gives: one answer for all examples, and which examples were drawn. Numbers alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.report.findings import Claim, Verdict
from benchmarks.tasks import METRICS

__all__ = ["Look", "either_way", "floor_of", "noise_of", "surely", "where_learnt"]

_ONE_SIDED, _TWO_SIDED = 1.645, 1.96
_CORRELATIONS = ("matthews", "pearson", "spearman")


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A model on a task.

    Attributes:
        metric: Its name.
        value: About where both models are.
        examples: That they are judged by.
    """

    metric: str
    value: float
    examples: int

    @property
    def variance(self) -> float:
        """Of the metric, over draws of examples: of a share of them, or of a correlation."""
        value = min(max(self.value, 0.0), 1.0)
        of_one = value * (1 - value)
        if self.metric in _CORRELATIONS:
            of_one = (1 - value**2) ** 2
        return of_one / self.examples


def floor_of(metric: str, labels: NDArray[np.float64]) -> float:
    """What a model must be above to have learnt anything, with 95 % confidence.

    The best that one answer for all examples gives, and the sampling error of a share of so many.

    Args:
        metric: Its name.
        labels: Of the examples that models are judged by.

    Example:
        >>> round(floor_of("accuracy", np.array([0.0, 1.0] * 128)), 3)
        0.551
    """
    answers = np.unique(labels)[:50]
    best = max(METRICS[metric](labels, np.full(len(labels), a, np.float64)) for a in answers)
    best = min(max(best, 0.0), 1.0)
    variance = Look(metric=metric, value=best, examples=len(labels)).variance
    return best + _ONE_SIDED * math.sqrt(variance)


def noise_of(looks: Sequence[Look], *, kept: bool = False) -> float:
    """How far the mean over tasks of a difference of two models may be from 0 by chance, at 95 %.

    As of examples drawn apart for both models: on the same examples it is less.

    Args:
        looks: One a task.
        kept: The difference is of shares of the metric, and not of the metric.

    Example:
        >>> round(noise_of([Look(metric="accuracy", value=0.85, examples=872)]), 3)
        0.034
    """
    variances = [2 * look.variance / (look.value**2 if kept else 1.0) for look in looks]
    return _TWO_SIDED * math.sqrt(sum(variances)) / max(len(variances), 1)


def surely(value: float, wanted: float, noise: float) -> bool | None:
    """Whether a figure is at least what is wanted; nothing where chance may decide."""
    return None if abs(value - wanted) < noise else value >= wanted


def either_way(found: Sequence[bool | None], judge: Callable[[Sequence[bool]], Verdict]) -> Verdict:
    """The verdict, if it is the same whatever those turn out to be that are not sure.

    Example:
        >>> either_way([True, None], lambda f: "held" if all(f) else "failed")
        'undecided'
    """
    best, worst = (judge([fill if f is None else f for f in found]) for fill in (True, False))
    return best if best == worst else "undecided"


def where_learnt(claims: Sequence[Claim], tasks: Collection[str]) -> list[Claim]:
    """The claims; undecided where there is no task that was learnt."""
    if tasks:
        return list(claims)
    nothing = "No task was learnt well enough to tell."
    return [replace(claim, found=nothing, verdict="undecided") for claim in claims]
