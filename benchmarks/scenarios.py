"""A model under load, by MLPerf's scenarios and its own LoadGen (extra `loadgen`).

SingleStream asks one text after the other; Offline hands over all at once; Server sends them at
Poisson times, and the question is how many a second while 99 of 100 answers stay under a bound.
"""

from __future__ import annotations

import queue
import re
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks import Encoded
from compress.errors import ProviderError

__all__ = ["SCENARIOS", "Load", "ScenarioName", "run_scenario"]

Inputs: TypeAlias = Mapping[str, NDArray[np.int64]]
Model: TypeAlias = Callable[[Inputs], object]
ScenarioName: TypeAlias = Literal["single-stream", "offline", "server"]
SCENARIOS: tuple[ScenarioName, ...] = get_args(ScenarioName)

_LEAST_QUERIES = 500
_RATES = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """The result of one scenario.

    Attributes:
        scenario: Which.
        value: p90 latency (s) of single-stream; sequences per second of the others.
        unit: `s` or `1/s`.
        what: The result in words, with what limits it.
        valid: Whether LoadGen's own rules (duration, early stopping) are met.
        p50_ms, p90_ms, p99_ms: Of the run that the value is from; none in offline.
    """

    scenario: ScenarioName
    value: float
    unit: str
    what: str
    valid: bool
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the report writes it."""
        return asdict(self)


def run_scenario(
    model: Model,
    scenario: ScenarioName,
    texts: Encoded,
    *,
    batch: int = 32,
    bound_ms: float = 100.0,
    seconds: float = 10.0,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Load:
    """Put a model under load.

    Args:
        model: What answers.
        scenario: How it is asked.
        texts: Real ones, so that lengths are real.
        batch: Sequences at a time, at most; batches hold like lengths (offline) or what waits
            (server).
        bound_ms: server: what 99 of 100 answers must stay under.
        seconds: Of each run, at least.
        progress: Told after each run; server needs several.

    Raises:
        ProviderError: LoadGen is not installed.
    """
    bench = _Bench(model, texts, batch)
    if scenario == "single-stream":
        progress(scenario, 0, 1)
        found = bench.run("SingleStream", seconds)
        progress(scenario, 1, 1)
        what = "90th percentile of latency, one text at a time"
        value, unit = found["90"] / 1e9, "s"
        return _load(scenario, value, unit, what, found)
    rate = bench.guess(seconds)
    if scenario == "offline":
        progress(scenario, 0, 1)
        found = bench.run("Offline", seconds, rate)
        progress(scenario, 1, 1)
        what = f"sequences a second, batches of {batch} of like length"
        return _load(scenario, found["rate"], "1/s", what, found)
    return _server(bench, rate, bound_ms, seconds, progress)


def _server(
    bench: _Bench,
    rate: float,
    bound_ms: float,
    seconds: float,
    progress: Callable[[str, int, int], None],
) -> Load:
    """The largest rate that keeps the bound: halved until one does, then bisected."""
    low, high, best = 0.0, rate, None
    progress("server", 0, _RATES)
    for done in range(1, _RATES + 1):
        trial = (low + high) / 2
        found = bench.run("Server", seconds, trial)
        if found["99"] <= bound_ms * 1e6:
            low, best = trial, found
        else:
            high = trial
        progress("server", done, _RATES)
    what = f"Poisson queries a second with p99 under {bound_ms:g} ms"
    if best is None:
        return Load(
            scenario="server", value=0.0, unit="1/s", valid=False,
            what=f"{what}: none of the rates down to {high:.3g} a second kept it",
        )  # fmt: skip
    return _load("server", low, "1/s", what, best)


def _load(
    scenario: ScenarioName, value: float, unit: str, what: str, found: Mapping[str, float]
) -> Load:
    times = (None, None, None) if scenario == "offline" else tuple(
        found[percent] / 1e6 for percent in ("50", "90", "99")
    )  # fmt: skip
    return Load(
        scenario=scenario, value=value, unit=unit, what=what, valid=bool(found["valid"]),
        p50_ms=times[0], p90_ms=times[1], p99_ms=times[2],
    )  # fmt: skip


class _Bench:
    """A model and its texts, between LoadGen's calls."""

    def __init__(self, model: Model, texts: Encoded, batch: int) -> None:
        self._loadgen = _loadgen()
        self._model, self._texts, self._batch = model, texts, batch

    def guess(self, seconds: float) -> float:
        """Sequences per second of a short offline run, as LoadGen wants to know beforehand."""
        return float(self.run("Offline", min(seconds, 2.0), 1.0)["rate"])

    def run(self, scenario: str, seconds: float, rate: float = 1.0) -> dict[str, float]:
        """One run of LoadGen: percentiles in nanoseconds by name, `rate`, and `valid`."""
        lg = self._loadgen
        settings = lg.TestSettings()
        settings.scenario = getattr(lg.TestScenario, scenario)
        settings.mode = lg.TestMode.PerformanceOnly
        settings.min_duration_ms = int(seconds * 1e3)
        settings.min_query_count = _LEAST_QUERIES if scenario == "Server" else 1
        settings.server_target_qps = settings.offline_expected_qps = rate
        # Percentiles are read from the log: a bound would only stop a run early.
        settings.server_target_latency_ns = int(1e12)
        n = len(self._texts.lengths)
        with (
            tempfile.TemporaryDirectory(prefix="compress-export-") as folder,
            _Server(self._answer) as server,
        ):
            issue = server.put if scenario == "Server" else self._offline
            sut = lg.ConstructSUT(issue, lambda: None)
            library = lg.ConstructQSL(n, n, lambda _: None, lambda _: None)
            lg.StartTestWithLogSettings(sut, library, settings, self._logs(folder), "")
            lg.DestroyQSL(library)
            lg.DestroySUT(sut)
            return _read_summary(Path(folder) / "mlperf_log_summary.txt")

    def _logs(self, folder: str) -> Any:
        output = self._loadgen.LogOutputSettings()
        output.outdir = folder
        output.copy_summary_to_stdout = False
        logs = self._loadgen.LogSettings()
        logs.log_output = output
        logs.enable_trace = False
        return logs

    def _offline(self, samples: Sequence[Any]) -> None:
        """All at once, in batches of like length."""
        order = sorted(samples, key=lambda sample: int(self._texts.lengths[sample.index]))
        for start in range(0, len(order), self._batch):
            self._answer(order[start : start + self._batch])

    def _answer(self, samples: Sequence[Any]) -> None:
        for start in range(0, len(samples), self._batch):
            part = samples[start : start + self._batch]
            self._model(self._texts.batch([sample.index for sample in part]))
            self._loadgen.QuerySamplesComplete(
                [self._loadgen.QuerySampleResponse(s.id, 0, 0) for s in part]
            )


class _Server:
    """One worker that answers what waits, all of it together; a context."""

    def __init__(self, answer: Callable[[Sequence[Any]], None]) -> None:
        self._answer = answer
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> _Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.put(None)
        self._thread.join()

    def put(self, samples: Sequence[Any]) -> None:
        """Leave samples for the worker."""
        for sample in samples:
            self._waiting.put(sample)

    def _work(self) -> None:
        while (sample := self._waiting.get()) is not None:
            together = [sample]
            while not self._waiting.empty():
                if (another := self._waiting.get()) is None:
                    self._waiting.put(None)
                    break
                together.append(another)
            self._answer(together)


def _read_summary(path: Path) -> dict[str, float]:
    text = path.read_text(encoding="utf-8")
    pattern = r"^([\d.]+) percentile latency \(ns\) +: (\d+)"
    found = {f"{float(p):g}": float(ns) for p, ns in re.findall(pattern, text, re.MULTILINE)}
    rate = re.search(r"amples per second\s*: ([\d.]+)", text)
    return found | {
        "rate": float(rate.group(1)) if rate else 0.0,
        "valid": float("Result is : VALID" in text),
    }


def _loadgen() -> Any:
    try:
        import mlperf_loadgen
    except ModuleNotFoundError as error:
        raise ProviderError(
            "mlcommons-loadgen must be installed for load scenarios, found it missing; "
            "pip install 'compress-export[loadgen]'"
        ) from error
    return mlperf_loadgen
