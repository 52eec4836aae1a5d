"""Agreement of rankings against scipy's and against what permutations must give."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.coherence import coherence, knee_of


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_and_its_probability_are_scipys(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first = generator.normal(size=30)
    second = 0.4 * first + generator.normal(size=30)
    second[3] = second[7]
    found = coherence(first, second, 6, draws=4000)
    expected = stats.spearmanr(first, second)
    assert found.spearman == pytest.approx(expected.statistic)
    assert found.p_spearman == pytest.approx(expected.pvalue, abs=0.03)


def test_overlap_of_the_best_is_jaccards() -> None:
    first, second = np.arange(10), np.array([0, 1, 2, 3, 4, 5, 9, 8, 7, 6])
    found = coherence(first, second, 3, draws=200)
    assert found.overlap == 2 / 4


def test_chance_gives_even_probabilities() -> None:
    generator = np.random.default_rng(0)
    found = [
        coherence(generator.normal(size=20), generator.normal(size=20), 5, draws=300).p_spearman
        for _ in range(200)
    ]
    assert 0.02 < np.mean(np.array(found) < 0.1) < 0.2
    assert min(found) > 0


def test_scores_that_are_all_alike_agree_with_nothing() -> None:
    assert coherence(np.ones(8), np.arange(8), 3, draws=50).spearman == 0.0


def test_a_knee_needs_three_points() -> None:
    assert knee_of([0, 1], [1, 0]) is None
