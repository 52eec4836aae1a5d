"""What samples say: intervals cover, gates tell noise from change, stopping waits for precision."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.gate import at_least, change_at_most
from benchmarks.itself import compare_with_itself
from benchmarks.latency import Latency
from benchmarks.proportions import Paired, ratio_interval
from benchmarks.rounds import Sampling, interleaved
from benchmarks.significance import kept_change, mcnemar, retention_interval
from benchmarks.statistics import carries, drift, half_widths, paired_ratio
from compress.plan.workload import Workload

Array = np.ndarray


def noisy(
    generator: np.random.Generator, n: int, slower: float = 1.0, own: float = 0.03
) -> tuple[Array, Array]:
    """Two contenders by round: neighbours slow whole stretches, and each jitters on its own."""
    bursts = np.repeat(generator.choice([1.0, 1.6], n // 6 + 1, p=[0.7, 0.3]), 6)[:n]
    walk = np.exp(np.cumsum(generator.normal(0, 0.01, n)))
    base, other = (
        1e-3 * bursts * walk * generator.lognormal(0, own, n) * (1 + (generator.random(n) < 0.03))
        for _ in range(2)
    )
    return base, slower * other


def opened(
    generator: np.random.Generator, parts: int = 4, luck: float = 0.01
) -> tuple[Latency, Latency]:
    """Equals in a measurement of several openings, each of which has luck of its own."""
    sides = [noisy(generator, 20) for _ in range(parts)]
    base, other = (
        np.concatenate([side[i] * np.exp(generator.normal(0, luck)) for side in sides])
        for i in range(2)
    )
    one, two = (
        Latency(
            contender=name,
            variant="v",
            provider="p",
            workload=Workload(batch=1, sequence=8),
            seconds=tuple(seconds.tolist()),
            parts=(20,) * parts,
        )
        for name, seconds in (("one", base), ("two", other))
    )
    return one, two


def test_the_luck_of_openings_is_part_of_the_interval() -> None:
    """Sessions that are a percent faster or slower until closed: rounds alone cannot know."""
    generator, hits, blind = np.random.default_rng(6), 0, 0
    for trial in range(200):
        one, two = opened(generator)
        _, low, high = paired_ratio(one.seconds, two.seconds, one.parts, seed=trial)
        hits += low <= 1 <= high
        _, low, high = paired_ratio(*(s.seconds[:20] for s in (one, two)), seed=trial)
        blind += low <= 1 <= high
    assert hits >= 186
    assert blind < hits


def test_a_paired_ratio_covers_the_truth_on_a_drifting_machine() -> None:
    generator, hits = np.random.default_rng(0), 0
    for trial in range(100):
        base, other = noisy(generator, 80, slower=1.05)
        _, low, high = paired_ratio(other, base, seed=trial)
        hits += low <= 1.05 <= high
    assert hits >= 90


def test_a_ratio_that_changes_half_way_gets_an_interval_that_holds_both() -> None:
    generator = np.random.default_rng(0)
    base, other = noisy(generator, 80)
    other[40:] *= 1.5
    _, low, high = paired_ratio(other, base)
    assert low < 1.1
    assert high > 1.4


def test_gates_never_fail_equals_and_find_what_is_slower() -> None:
    generator = np.random.default_rng(1)
    found: dict[float, list[str]] = {1.0: [], 1.05: [], 1.10: []}
    for trial in range(200):
        for slower, verdicts in found.items():
            base, other = noisy(generator, 80, slower)
            ratio = paired_ratio(other, base, seed=trial)
            limit = 0.02 if slower == 1.05 else 0.05
            verdicts.append(change_at_most("latency", limit, *ratio).verdict)
    assert found[1.0].count("fail") <= 2
    assert found[1.05].count("fail") >= 160
    assert found[1.05].count("pass") == 0
    assert found[1.10].count("fail") >= 190


def test_a_measurement_coarser_than_its_gate_must_be_far_off_to_fail() -> None:
    """Chance takes one interval in forty past a limit; twice as far is another matter."""
    assert change_at_most("latency", 0.05, 1.20, 1.06, 1.36).verdict == "inconclusive"
    assert change_at_most("latency", 0.05, 1.80, 1.50, 2.16).verdict == "fail"
    assert change_at_most("latency", 0.05, 1.0, 0.99, 1.01).verdict == "pass"


def test_equals_against_themselves_raise_no_alarm() -> None:
    generator = np.random.default_rng(2)
    found = compare_with_itself([opened(generator) for _ in range(20)], 0.05)
    assert (found.runs, found.alarms) == (20, 0)
    assert found.simulated_alarms <= 0.01
    assert found.excluding <= 0.2
    assert 0 < found.resolution < 0.05


def test_a_percentile_needs_samples_that_bound_it() -> None:
    assert carries(8, 50)
    assert not carries(71, 95)
    assert carries(72, 95)
    assert not carries(3000, 99.9)


def test_drift_is_told_and_noise_is_not() -> None:
    assert drift(np.repeat([1.0, 1.2], 30)) == pytest.approx(0.2)
    assert drift(np.ones(60)) == 0.0


def test_stopping_waits_for_precision_and_the_percentile_or_for_time() -> None:
    sampling = Sampling(precision=0.02, wanted=72, least=5, rounds=1000, seconds=10)
    exact = [[1.0, 2.0]] * 71
    assert not sampling.enough(exact, 1.0)
    assert sampling.enough([*exact, [1.0, 2.0]], 1.0)
    generator = np.random.default_rng(0)
    rough = generator.lognormal(0, 0.8, (100, 2)).tolist()
    assert not sampling.enough(rough, 1.0)
    assert sampling.enough(rough, 11.0)
    assert not sampling.enough(rough[:4], 11.0)


def test_what_slows_a_whole_round_costs_no_precision_unless_asked() -> None:
    slow = np.exp(np.random.default_rng(0).normal(0, 0.5, (80, 1)))
    rounds = slow * np.array([[1.0, 3.0]])
    assert half_widths(rounds).max() < 1e-9
    assert half_widths(rounds, absolute=True).min() > 0.05


def test_warm_up_goes_on_while_a_call_gets_faster() -> None:
    calls = iter([10.0, 8.0, 6.0, 4.0, 3.0, 2.0, 1.5, 1.0] + [1.0] * 100)
    samples = interleaved([lambda: next(calls)], lambda rounds, _: len(rounds) == 5)
    assert samples.max() == 1.0


def test_mcnemar_counts_only_what_changed_sides() -> None:
    labels = np.ones(100)
    teacher, student = labels.copy(), labels.copy()
    assert mcnemar(labels, teacher, student) == 1.0
    student[:10] = 0
    assert mcnemar(labels, teacher, student) == pytest.approx(2 * 0.5**10)
    teacher[10:20] = 0
    assert mcnemar(labels, teacher, student) == 1.0


def test_the_retention_interval_covers_students_of_known_quality() -> None:
    """Simulated students: the interval holds the truth 93 to 97 times of 100."""
    generator, hits, trials = np.random.default_rng(3), 0, 250
    for trial in range(trials):
        labels = generator.integers(0, 2, 872).astype(float)
        teacher = np.where(generator.random(872) < 0.9, labels, 1 - labels)
        same = generator.random(872) < 0.8  # students answer mostly as their teacher does
        own = np.where(generator.random(872) < 0.85, labels, 1 - labels)
        student = np.where(same, teacher, own)
        low, high = retention_interval("accuracy", labels, teacher, [student], seed=trial)
        hits += low <= (0.8 * 0.9 + 0.2 * 0.85) / 0.9 <= high
    assert 0.93 <= hits / trials <= 0.97


@pytest.mark.parametrize("n", [5, 30, 100, 277, 872, 5000])
@pytest.mark.parametrize("loss", [0.0, 0.005, 0.01, 0.05])
def test_the_ratio_interval_covers_the_truth_where_few_disagree(n: int, loss: float) -> None:
    generator = np.random.default_rng(0)
    shares = [0.9 * (1 - loss) - 0.01, 0.01 + 0.9 * loss, 0.01, 0.09]
    counts = generator.multinomial(n, shares, 1000)
    rows, times = np.unique(counts, axis=0, return_counts=True)
    hits = 0
    for (both, first, second, _), count in zip(rows.tolist(), times.tolist(), strict=True):
        low, high = ratio_interval(Paired(both=both, first=first, second=second, total=n))
        hits += count * (low <= 1 - loss <= high)
    assert hits >= 930


def test_five_agreeing_examples_prove_nothing() -> None:
    labels = np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    for metric in ("accuracy", "f1", "matthews", "spearman"):
        low, high = retention_interval(metric, labels, labels, [labels])
        assert at_least("retention", 0.99, 1.0, low, high).verdict == "inconclusive", metric


def test_agreement_of_all_examples_keeps_a_width_for_every_metric_of_classes() -> None:
    labels = np.arange(200) % 2.0
    for metric in ("f1", "matthews"):
        low, high = retention_interval(metric, labels, labels, [labels])
        assert low < 0.999 < 1 <= high, metric


def test_fewer_than_six_rounds_bound_no_ratio() -> None:
    value, low, high = paired_ratio([2.0], [1.0])
    assert (value, low, high) == pytest.approx((2, 0.2, 20))


def test_several_seeds_are_pooled_into_one_wider_statement() -> None:
    generator = np.random.default_rng(4)
    labels = generator.integers(0, 2, 500).astype(float)
    students = [np.where(generator.random(500) < share, labels, 1 - labels) for share in (0.7, 0.9)]
    alone = [retention_interval("accuracy", labels, labels, [s]) for s in students]
    low, high = retention_interval("accuracy", labels, labels, students)
    assert low < alone[0][0] < 0.8 < alone[1][1] < high  # two seeds so far apart tell little
    close = retention_interval("accuracy", labels, labels, [students[0], students[0]])
    assert close == pytest.approx(alone[0], abs=0.01)


def test_the_change_between_two_students_is_far_tighter_than_their_intervals() -> None:
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 2, 872).astype(float)
    teacher = np.where(generator.random(872) < 0.9, labels, 1 - labels)
    before = np.where(generator.random(872) < 0.88, labels, 1 - labels)
    after = before.copy()
    value, low, high = kept_change("accuracy", labels, teacher, before, after)
    assert (value, low, high) == pytest.approx((0, -0.005, 0.005), abs=0.001)
    after[np.flatnonzero(after == labels)[:9]] -= 1  # nine more wrong
    change, low, high = kept_change("accuracy", labels, teacher, before, after)
    assert change == pytest.approx(-9 / 872 / (teacher == labels).mean())
    apart = retention_interval("accuracy", labels, teacher, [after])
    assert math.isclose(high - low, 0, abs_tol=(apart[1] - apart[0]) / 2)
    assert high < 0
