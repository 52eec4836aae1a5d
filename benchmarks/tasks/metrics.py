"""GLUE's metrics, by name. Knows arrays only."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics

__all__ = ["METRICS", "predictions"]

Array: TypeAlias = NDArray[np.float64]


def predictions(logits: NDArray[np.float32]) -> Array:
    """From logits `(examples, n_labels)` to class ids, or to the number where there is one."""
    if logits.shape[1] == 1:
        return np.asarray(logits[:, 0], np.float64)
    return np.asarray(logits.argmax(axis=1), np.float64)


def _accuracy(labels: Array, predicted: Array) -> float:
    return float((labels == predicted).mean())


def _f1(labels: Array, predicted: Array) -> float:
    return float(metrics.f1_score(labels, predicted, zero_division=0))


def _matthews(labels: Array, predicted: Array) -> float:
    return float(metrics.matthews_corrcoef(labels, predicted))


def _correlation(
    measure: Callable[[Array, Array], tuple[float, float]],
) -> Callable[[Array, Array], float]:
    def compute(labels: Array, predicted: Array) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a constant prediction correlates with nothing: 0
            value = float(measure(labels, predicted)[0])
        return value if np.isfinite(value) else 0.0

    return compute


METRICS: dict[str, Callable[[Array, Array], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _correlation(stats.pearsonr),
    "spearman": _correlation(stats.spearmanr),
}
"""From labels and predictions, each `(examples,)`, to the metric's value."""
