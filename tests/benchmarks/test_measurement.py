"""Intervals, gates, interleaving, sessions: right when it says pass, and honest when it cannot."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks.accuracy import compare, predict
from benchmarks.environment import environment
from benchmarks.gate import at_least, at_most, is_doubtful, overall
from benchmarks.latency import Contender, Latency, measure, speedup, workload_inputs
from benchmarks.memory import measure_memory
from benchmarks.mix import over_mix
from benchmarks.neighbours import Neighbours, throttled_seconds
from benchmarks.rounds import Sampling, timed
from benchmarks.runtimes.onnxruntime import CPU, CUDA, OrtModel, cuda_available
from benchmarks.significance import retention_interval
from benchmarks.statistics import samples_needed
from benchmarks.tasks import Dataset
from compress.errors import BundleError, DataError, ProviderError
from compress.plan.workload import Mix, Workload
from export.bundle import export_variant
from export.precision.variants import variant
from tests.families import tiny
from tests.tokenizer import tiny_tokenizer

WORKLOAD = Workload(batch=2, sequence=8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "cpu-fp32"
    export_variant(tiny("bert"), tiny_tokenizer(), variant("cpu-fp32"), folder)
    return folder


def latency(seconds: list[float], contender: str = "student") -> Latency:
    return Latency(
        contender=contender,
        variant="cpu-fp32",
        provider=CPU,
        workload=WORKLOAD,
        seconds=tuple(seconds),
    )


def test_contenders_are_interleaved_in_random_order() -> None:
    order: list[str] = []
    contenders = [
        Contender(
            name=n,
            variant="v",
            provider=CPU,
            open=lambda n=n: nullcontext(lambda _: timed(lambda: order.append(n))),
        )
        for n in "ab"
    ]
    inputs = {WORKLOAD: workload_inputs(WORKLOAD, 99)}
    sampling = Sampling(rounds=12, least=2, seconds=100)
    results = measure(contenders, [WORKLOAD], inputs, {WORKLOAD: sampling})
    rounds = ["".join(order[i : i + 2]) for i in range(0, len(order), 2)]
    assert set(rounds) == {"ab", "ba"}
    assert [len(r.seconds) for r in results] == [12, 12]


def test_percentiles_and_throughput_come_from_the_samples() -> None:
    samples = latency([i / 1000 for i in range(1, 102)])
    assert samples.percentile_ms(50) == pytest.approx(51)
    assert samples.percentile_ms(99) == pytest.approx(100)
    assert samples.throughput_per_s == pytest.approx(2 / 0.051)
    low, high = samples.interval_ms(50)
    assert low < 51 < high


@pytest.mark.parametrize("percent", [50, 95, 99])
def test_percentile_intervals_cover_the_truth(percent: int) -> None:
    """Log-normal latencies: the 95 % interval holds the true percentile at least 90 times."""
    rng = np.random.default_rng(0)
    truth = float(np.quantile(rng.lognormal(sigma=0.5, size=400_000), percent / 100)) * 1e3
    n, hits = samples_needed(percent), 0
    for _ in range(100):
        low, high = latency(list(rng.lognormal(sigma=0.5, size=n))).interval_ms(percent)
        hits += low <= truth <= high
    assert hits >= 90


def test_too_few_samples_leave_a_percentile_open() -> None:
    low, high = latency([0.001] * 20).interval_ms(99)
    assert high == float("inf")
    gate = at_most("latency_ms.p99", 5.0, 1.0, low, high)
    assert (gate.verdict, gate.to_dict()["high"]) == ("inconclusive", None)


def test_speedup_pairs_the_rounds() -> None:
    """A machine that slows down half-way slows both: the ratio stays tight."""
    drift = np.repeat([1.0, 3.0], 30)
    found = speedup(latency(list(2 * drift)), latency(list(drift)))
    assert found == pytest.approx((2.0, 2.0, 2.0))


def test_retention_interval_covers_the_truth() -> None:
    """Simulated students of known quality: the 95 % interval holds the truth about 95 times."""
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(100):
        labels = rng.integers(0, 2, 400).astype(float)
        teacher = np.where(rng.random(400) < 0.9, labels, 1 - labels)
        student = np.where(rng.random(400) < 0.85, labels, 1 - labels)
        low, high = retention_interval("accuracy", labels, teacher, [student], seed=trial)
        hits += low <= 0.85 / 0.9 <= high
    assert 88 <= hits <= 100


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.985, 1.0, "pass"), (0.90, 0.975, "fail"), (0.97, 0.99, "inconclusive")],
)
def test_a_gate_passes_or_fails_only_when_the_interval_is_clear(
    low: float, high: float, verdict: str
) -> None:
    assert at_least("retention", 0.98, (low + high) / 2, low, high).verdict == verdict
    mirrored = at_most("latency_ms.p95", -0.98, 0, -high, -low)
    assert mirrored.verdict == verdict


def test_failure_outweighs_doubt_and_no_promise_is_kept() -> None:
    ok, bad, open_ = (
        at_least("x", 1, 1, low, high) for low, high in ((1, 2), (0, 0.5), (0.5, 1.5))
    )
    assert overall([]) == "pass"
    assert overall([ok, open_]) == "inconclusive"
    assert overall([ok, open_, bad]) == "fail"


def data(n: int) -> Dataset:
    texts = tuple((" ".join(f"w{(i + j) % 90}" for j in range(1 + i % 7)),) for i in range(n))
    return Dataset(name="t", split="validation", texts=texts, labels=("0",) * n)


def test_predictions_come_back_in_the_order_of_the_data(bundle: Path) -> None:
    model, tokenizer, dataset = OrtModel(bundle), tiny_tokenizer(), data(23)
    together = predict(model, tokenizer, dataset, max_length=16, batch_size=5)
    alone = np.concatenate(
        [
            predict(
                model,
                tokenizer,
                Dataset(name="t", split="v", texts=(texts,), labels=("0",)),
                max_length=16,
            )
            for texts in dataset.texts
        ]
    )
    assert np.allclose(together, alone, atol=1e-5)


def test_a_teacher_against_itself_keeps_everything(bundle: Path) -> None:
    dataset = data(40)
    logits = predict(OrtModel(bundle), tiny_tokenizer(), dataset, max_length=16)
    labels = np.arange(40) % 3.0
    (row,) = compare(dataset, labels, logits, logits, metrics=("accuracy",), variant="cpu-fp32")
    assert row.retention == 1.0
    assert 0.7 < row.low < 1.0 < row.high < 1.4  # forty examples prove no more


def test_non_finite_logits_name_the_example() -> None:
    def broken(inputs: dict[str, np.ndarray]) -> np.ndarray:
        logits = np.zeros((len(inputs["input_ids"]), 2), np.float32)
        logits[inputs["attention_mask"].sum(1) == 9] = np.nan
        return logits

    with pytest.raises(DataError, match="example 7"):
        predict(broken, tiny_tokenizer(), data(12), max_length=16)  # type: ignore[arg-type]


def test_a_session_on_another_provider_is_an_error(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        onnxruntime.InferenceSession, "get_providers", lambda _: ["OtherExecutionProvider"]
    )
    with pytest.raises(ProviderError, match="must run on CPUExecutionProvider"):
        OrtModel(bundle)


@pytest.mark.skipif(cuda_available(), reason="there is a GPU here")
@pytest.mark.skipif(
    CUDA not in onnxruntime.get_available_providers(), reason="onnxruntime without CUDA"
)
def test_cuda_without_a_gpu_is_refused_though_onnxruntime_lists_it(bundle: Path) -> None:
    with pytest.raises((ProviderError, BundleError)):
        OrtModel(bundle, CUDA)


@pytest.mark.gpu
def test_a_cuda_session_runs_on_cuda(bundle: Path) -> None:
    assert OrtModel(bundle, CUDA).provider == CUDA


def test_a_missing_or_broken_graph_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="found none"):
        OrtModel(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match="must open in ONNX Runtime"):
        OrtModel(tmp_path)


def test_memory_is_measured_in_a_process_of_its_own(bundle: Path) -> None:
    memory = measure_memory("student", "cpu-fp32", bundle, CPU, WORKLOAD, 99)
    assert 0 < memory.loaded_bytes < 2**30
    assert memory.working_bytes > 0


def test_memory_of_a_broken_graph_ends_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="found none"):
        measure_memory("student", "x", tmp_path, CPU, WORKLOAD, 99)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_environment_tells_machine_and_versions() -> None:
    facts = environment()
    assert facts["cpu"]
    assert facts["cores"] >= 1
    assert {"torch", "onnxruntime", "compress-export"} <= facts["versions"].keys()


def test_what_others_take_is_busy_time_less_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([(0.0, 0.0, 0.0, 0.0), (10.0, 12.0, 8.0, 0.0), (10.0, 12.0, 8.0, 0.0)])
    monkeypatch.setattr(Neighbours, "_now", lambda _: next(looks))
    monkeypatch.setattr("benchmarks.neighbours._cores", lambda: [0, 1])
    counted = Neighbours()
    assert counted.share is None  # too little was seen to say
    counted.look()
    assert counted.share == pytest.approx(4 / 20)


def test_our_own_work_is_not_others() -> None:
    before, cpu = Neighbours()._now(), time.process_time()
    while time.process_time() < cpu + 0.3:
        pass
    _, busy, own, _ = (b - a for a, b in zip(before, Neighbours()._now(), strict=True))
    assert own >= 0.28  # the kernel counts in hundredths
    assert busy > 0


def test_time_that_a_quota_takes_away_is_seen(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 5\nnr_throttled 3\nthrottled_usec 1500000\n")
    assert throttled_seconds(tmp_path) == pytest.approx(1.5)
    assert throttled_seconds(tmp_path / "none") == 0.0


def test_what_a_quota_takes_leaves_time_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([(0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0, 0.8), (1.0, 1.0, 1.0, 0.8)])
    monkeypatch.setattr(Neighbours, "_now", lambda _: next(looks))
    monkeypatch.setattr("benchmarks.neighbours._cores", lambda: [0, 1])
    counted = Neighbours()
    counted.look()
    assert counted.share == pytest.approx(0.4)
    sample = replace(latency([0.01] * 20), others=counted.share)
    assert is_doubtful(sample)
    assert is_doubtful(replace(sample, others=None))
    assert is_doubtful(latency([0.01]))
    assert not is_doubtful(latency([0.01] * 20))


def bursts(generator: np.random.Generator, rounds: int) -> list[float]:
    """Rounds of which a twelfth lie in slow runs of ten."""
    starts = np.flatnonzero(generator.random(rounds + 10) < 0.008)
    slow = np.zeros(rounds + 20)
    for start in starts:
        slow[start : start + 10] = 0.3
    return list(np.exp(0.03 * generator.standard_normal(rounds)) * (1 + slow[10 : rounds + 10]))


def p95_under_bursts(rounds: int) -> tuple[float, list[tuple[float, float]]]:
    """The true p95, and its intervals from 200 samples of so many rounds."""
    generator = np.random.default_rng(0)
    truth = float(np.quantile(bursts(generator, 400_000), 0.95)) * 1e3
    found = [
        replace(latency(bursts(generator, rounds)), parts=(rounds // 4,) * 4).interval_ms(95)
        for _ in range(200)
    ]
    return truth, found


@pytest.mark.parametrize("rounds", [800, 1600])
def test_runs_of_slow_rounds_do_not_make_a_percentile_sure(rounds: int) -> None:
    truth, found = p95_under_bursts(rounds)
    assert sum(np.isfinite(high) for _, high in found) >= 150
    assert sum(low <= truth <= high for low, high in found) >= 180
    assert sum(high <= 0.95 * truth for _, high in found) <= 10


@pytest.mark.parametrize("rounds", [96, 400])
def test_too_few_rounds_do_not_bound_a_percentile_from_above(rounds: int) -> None:
    truth, found = p95_under_bursts(rounds)
    assert all(np.isinf(high) for _, high in found)
    assert sum(low <= truth for low, _ in found) >= 190


def test_a_mixs_errors_count_by_their_share_of_the_time() -> None:
    generator = np.random.default_rng(0)
    long = Workload(batch=8, sequence=64)
    rounds = {WORKLOAD: 0.01, long: 0.1}
    anchor = [
        replace(latency(list(seconds * generator.lognormal(0, 0.05, 80))), workload=workload)
        for workload, seconds in rounds.items()
    ]
    sample = [
        replace(own, seconds=tuple(np.array(own.seconds) / 2 * generator.lognormal(0, 0.02, 80)))
        for own in anchor
    ]
    mix = Mix(shares=((WORKLOAD, 0.5), (long, 0.5)))
    found = over_mix(anchor, sample, mix)
    assert found.speedup_low < 2 < found.speedup_high
    assert found.milliseconds == pytest.approx(27.5, rel=0.05)
    assert found.speedup == pytest.approx(2, rel=0.02)
