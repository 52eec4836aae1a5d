"""A model under load, by MLPerf's scenarios and its own LoadGen (extra `loadgen`).

SingleStream asks one text after the other; Offline hands over all at once; Server sends them at
Poisson times, and the question is how many a second while 99 of 100 answers stay under a bound.
"""

from __future__ import annotations

import math
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
        most: Sequences at a time, at most.
        bound_ms: server: what p99 must stay under.
        p50_ms, p90_ms, p99_ms: Of the run that the value is from; none in offline.
    """

    scenario: ScenarioName
    value: float
    unit: str
    what: str
    valid: bool
    most: int
    bound_ms: float | None = None
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
    if scenario == "server":
        return _server(bench, bound_ms, seconds, progress)
    progress(scenario, 0, 1)
    if scenario == "single-stream":
        found = bench.run("SingleStream", seconds)
        value, unit = found["90"] / 1e9, "s"
        what = "90th percentile of latency, one text at a time, padding it included"
    else:
        found = bench.offline(seconds)
        value, unit = found["rate"], "1/s"
        what = f"sequences a second, batches of {batch} of like length, padding them included"
    progress(scenario, 1, 1)
    return Load(
        scenario=scenario, value=value, unit=unit, what=what, valid=bool(found["valid"]),
        most=batch, **({} if scenario == "offline" else _percentiles(found)),
    )  # fmt: skip


def _server(
    bench: _Bench,
    bound_ms: float,
    seconds: float,
    progress: Callable[[str, int, int], None],
) -> Load:
    """The largest rate that keeps the bound: doubled until it breaks, then bisected."""
    low, high, best = 0.0, math.inf, None
    trial = bench.offline(min(seconds, 2.0))["rate"]
    progress("server", 0, _RATES)
    for done in range(1, _RATES + 1):
        found = bench.run("Server", seconds, trial)
        if found["99"] <= bound_ms * 1e6:
            low, best = trial, found
        else:
            high = trial
        trial = 2 * low if math.isinf(high) else (low + high) / 2
        progress("server", done, _RATES)
    what = f"Poisson queries a second with p99 under {bound_ms:g} ms"
    if best is None:
        what += f": none of the rates down to {high:.3g} a second kept it"
    return Load(
        scenario="server", value=low, unit="1/s", what=what, most=bench.batch, bound_ms=bound_ms,
        valid=bool(best and best["valid"]), **_percentiles(best or {}),
    )  # fmt: skip


def _percentiles(found: Mapping[str, float]) -> dict[str, float | None]:
    names = {"p50_ms": "50", "p90_ms": "90", "p99_ms": "99"}
    return {name: found[p] / 1e6 if p in found else None for name, p in names.items()}


class _Bench:
    """A model and its texts, between LoadGen's calls."""

    def __init__(self, model: Model, texts: Encoded, batch: int) -> None:
        self._loadgen = _loadgen()
        self._model, self._texts, self.batch = model, texts, batch
        self._failure: Exception | None = None

    def offline(self, seconds: float) -> dict[str, float]:
        """All at once, as many as take that long: asked again until the guess is good."""
        rate = 2.0 * self.batch / seconds
        while True:
            found = self.run("Offline", seconds, rate)
            if found["valid"] or found["rate"] <= rate:
                return found
            rate = min(1.2 * found["rate"], 8 * rate)

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
            if self._failure is not None:
                raise self._failure
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
        for start in range(0, len(order), self.batch):
            self._answer(order[start : start + self.batch])

    def _answer(self, samples: Sequence[Any]) -> None:
        for start in range(0, len(samples), self.batch):
            part = samples[start : start + self.batch]
            try:
                if self._failure is None:
                    self._model(self._texts.batch([sample.index for sample in part]))
            except Exception as error:  # LoadGen waits for every answer: it is raised afterwards
                self._failure = error
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
