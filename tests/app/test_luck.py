"""What studies may conclude: floors to be above, and differences that mean nothing."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.coherence import coherence
from benchmarks.report.findings import Claim, verdict_of
from compress.search.knapsack import Item, choose
from compress_export.studies.knowledge.study import KnowledgeGrid
from compress_export.studies.luck import Look, either_way, floor_of, noise_of, surely, where_learnt


def test_a_constant_answer_is_below_the_floor() -> None:
    labels = np.array([1.0] * 70 + [0.0] * 30)
    assert 0.7 < floor_of("accuracy", labels) < 0.8
    yes = 2 * 0.7 / 1.7  # precision 0.7, recall 1
    assert yes < floor_of("f1", labels) < 0.9
    assert 0.0 < floor_of("matthews", labels) < 0.2


def test_the_noise_of_two_models_covers_what_chance_does() -> None:
    generator = np.random.default_rng(0)
    found = generator.binomial(200, 0.8, (4000, 2)) / 200
    differences = np.abs(found[:, 0] - found[:, 1])
    look = Look(metric="accuracy", value=0.8, examples=200)
    assert np.mean(differences < noise_of([look])) == pytest.approx(0.95, abs=0.02)
    assert noise_of([look, look]) == pytest.approx(noise_of([look]) / 2**0.5)
    assert noise_of([look], kept=True) == pytest.approx(noise_of([look]) / 0.8)


def test_a_weak_correlation_is_noisier_than_a_share() -> None:
    pairs = np.random.default_rng(0).multivariate_normal(
        [0, 0], [[1, 0.2], [0.2, 1]], (4000, 2, 100)
    )
    found = [[np.corrcoef(part.T)[0, 1] for part in both] for both in pairs]
    differences = np.abs(np.diff(found, axis=1))
    look = Look(metric="pearson", value=0.2, examples=100)
    assert np.mean(differences < noise_of([look])) == pytest.approx(0.95, abs=0.02)


def test_what_chance_may_decide_is_undecided() -> None:
    found = [surely(0.99, 0.98, 0.005), surely(0.981, 0.98, 0.005)]
    assert found == [True, None]
    assert either_way(found, verdict_of) == "undecided"
    assert either_way(found[:1], verdict_of) == "held"


def test_ranks_opposed_within_layers_do_not_agree_within_them() -> None:
    layers = [layer for layer in range(6) for _ in range(8)]
    within = np.tile(np.arange(8.0), 6)
    trend = 20.0 * np.array(layers)
    found = coherence(trend + within, trend - within, 5, groups=layers, draws=500)
    assert found.spearman > 0.7
    assert found.p_spearman > 0.9


@pytest.mark.parametrize("kept", [9, 18, 36])
def test_half_a_head_of_room_gives_exactly_the_heads_asked_for(kept: int) -> None:
    harm = np.random.default_rng(0).exponential(size=(6, 12)).cumsum(1)[:, ::-1]
    items = [Item(cost=np.arange(13.0), loss_increase=np.append(h, 0.0)) for h in harm]
    assert sum(choose(items, kept + 0.5) or []) == kept


def test_all_three_cuts_at_once_are_the_ones_that_were_named() -> None:
    points = dict(KnowledgeGrid(depths=(2,), lengths=(3, 7), widths=(0.4,)).points(quick=False))
    joint = points["joint"]
    assert (joint.depth, joint.max_tokens, joint.feature_fraction) == (2, 7, 0.4)
    assert dict(KnowledgeGrid().points(quick=True))["joint"].max_tokens == 5


def test_nothing_is_claimed_where_nothing_was_learnt() -> None:
    claim = Claim(source="a paper", says="so it is", found="it is", verdict="held")
    assert where_learnt([claim], ["sst2"]) == [claim]
    (untold,) = where_learnt([claim], [])
    assert (untold.says, untold.verdict) == ("so it is", "undecided")
