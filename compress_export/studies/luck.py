"""What luck gives: one answer for all examples, and which examples were drawn. Numbers alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.report.findings import Claim, Verdict
from benchmarks.tasks import METRICS

__all__ = ["either_way", "floor_of", "noise_of", "surely", "where_learnt"]

_ONE_SIDED, _TWO_SIDED = 1.645, 1.96


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
    spread = best * (1 - best) if best > 0 else 1.0  # a correlation's, where it is nil
    return best + _ONE_SIDED * math.sqrt(spread / len(labels))


def noise_of(metrics: Sequence[float], examples: Sequence[int]) -> float:
    """How far the mean over tasks of a difference of two models may be from 0 by chance, at 95 %.

    As of shares of examples, drawn apart for both models: on the same examples it is less.

    Args:
        metrics: About where both models are, one a task.
        examples: That they are judged by.

    Example:
        >>> round(noise_of([0.85], [872]), 3)
        0.034
    """
    shares = [min(max(metric, 0.0), 1.0) for metric in metrics]
    variances = [2 * p * (1 - p) / n for p, n in zip(shares, examples, strict=True)]
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
