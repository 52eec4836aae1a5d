"""Do two rankings agree, and where does a curve bend? Pure: arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = ["Coherence", "coherence", "knee_of"]

Array = NDArray[np.float64]

PERMUTATIONS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Coherence:
    """How far two scores of the same units agree.

    Attributes:
        spearman: Rank correlation, -1 to 1.
        p_spearman: Probability of one as far from 0 if units were matched by chance; where they
            are matched within groups, of one as high.
        top: How many units of the highest score are compared.
        overlap: Share of both top sets' union that is in both (Jaccard), 0 to 1.
        p_overlap: Probability of as much by chance.
    """

    spearman: float
    p_spearman: float
    top: int
    overlap: float
    p_overlap: float


def coherence(
    first: ArrayLike,
    second: ArrayLike,
    top: int,
    *,
    groups: Sequence[int] | None = None,
    seed: int = 0,
    draws: int = PERMUTATIONS,
) -> Coherence:
    """Rank correlation and overlap of the best, each with a permutation test.

    A probability is never 0: what was found counts as one of the draws.

    Args:
        first: Scores, `(units,)`.
        second: Of the same units.
        top: Units of the highest score to compare, 1 to all.
        groups: Of each unit, such as its layer: units then change places within their group alone,
            so that a trend from group to group does not pass for agreement on units.
        seed: Of the permutations.
        draws: How many.

    Example:
        >>> found = coherence([1, 2, 3, 4, 5], [2, 4, 6, 8, 11], 2)
        >>> round(found.spearman, 2), found.overlap
        (1.0, 1.0)
    """
    ranks = [stats.rankdata(np.asarray(scores, np.float64)) for scores in (first, second)]
    one, two = (r - r.mean() for r in ranks)
    scale = float(np.sqrt((one @ one) * (two @ two))) or 1.0
    mine, theirs = (_best(r, top) for r in ranks)
    order = _permutations(np.array(groups if groups else [0] * len(one)), draws, seed)
    rho, overlap = float(one @ two) / scale, _jaccard(mine, theirs)
    by_chance = two[order] @ one / scale
    as_far = np.abs(by_chance) >= abs(rho) - 1e-12
    as_high = by_chance >= rho - 1e-12
    shared = (theirs[order] & mine).sum(1) / np.maximum((theirs[order] | mine).sum(1), 1)
    return Coherence(
        spearman=rho,
        p_spearman=_probability(as_far if groups is None else as_high),
        top=top,
        overlap=overlap,
        p_overlap=_probability(shared >= overlap - 1e-12),
    )


def _best(ranks: Array, top: int) -> NDArray[np.bool_]:
    """Which units are among the `top` of the highest rank."""
    if top >= len(ranks):
        return np.ones(len(ranks), bool)
    best: NDArray[np.bool_] = ranks > np.sort(ranks)[-top - 1]
    return best


def _permutations(groups: NDArray[np.int64], draws: int, seed: int) -> NDArray[np.int64]:
    """Orders of the units, `(draws, units)`, each within its group."""
    generator = np.random.default_rng(seed)
    order = np.tile(np.arange(len(groups)), (draws, 1))
    for group in np.unique(groups):
        places = np.flatnonzero(groups == group)
        order[:, places] = generator.permuted(order[:, places], axis=1)
    return order


def knee_of(x: Sequence[float], y: Sequence[float]) -> int | None:
    """The place after which a curve falls fastest: farthest above the chord of its ends.

    Satopää et al. 2011 (Kneedle), both axes scaled to 0…1.

    Args:
        x: Rising.
        y: At each.

    Returns:
        An index; none where there are fewer than three points, or none lies above the chord.

    Example:
        >>> knee_of([0, 1, 2, 3], [1.0, 0.98, 0.95, 0.2])
        2
    """
    if len(x) < 3:
        return None
    across, up = _scaled(x), _scaled(y)
    above = up - (up[0] + (up[-1] - up[0]) * across)
    return int(above.argmax()) if above.max() > 1e-9 else None


def _scaled(values: Sequence[float]) -> Array:
    array = np.array(values, np.float64)
    scaled: Array = (array - array.min()) / max(float(np.ptp(array)), 1e-12)
    return scaled


def _jaccard(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / max(int((first | second).sum()), 1))


def _probability(hits: NDArray[np.bool_]) -> float:
    return (int(hits.sum()) + 1) / (len(hits) + 1)
