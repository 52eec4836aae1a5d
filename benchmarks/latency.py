"""Latency of several contenders, interleaved in one process.

Every round runs each contender once, in a random order, so that a drift of the machine and the
traces of the contender before fall on all alike. Samples are kept whole; statistics are derived
from them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from compress.workload import Workload

__all__ = [
    "Contender",
    "Latency",
    "Sampling",
    "Workload",
    "interleaved",
    "measure",
    "samples_needed",
    "speedup",
    "workload_inputs",
]

Inputs: TypeAlias = dict[str, NDArray[np.int64]]
Runner: TypeAlias = Callable[[Inputs], object]

RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """When to stop: after `rounds`, or when `seconds` have passed and `least` rounds are in."""

    rounds: int = 60
    least: int = 15
    seconds: float = 8.0
    warmup: int = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Samples of one contender under one workload.

    Attributes:
        contender: `teacher`, `student`, or the name that the user gave.
        variant: Of its bundle.
        provider: Where it ran.
        workload: What it was given.
        seconds: One wall-clock sample a round; round i of all contenders belongs together.
    """

    contender: str
    variant: str
    provider: str
    workload: Workload
    seconds: tuple[float, ...]

    def percentile_ms(self, percent: float) -> float:
        """A percentile of the samples, in milliseconds."""
        return float(np.percentile(self.seconds, percent) * 1e3)

    def interval_ms(self, percent: float) -> tuple[float, float]:
        """95 % interval of a percentile, in milliseconds, from the order statistics.

        Free of any assumption about the distribution: the number of samples below the true
        percentile is binomial. Where there are too few samples to bound it (see
        `samples_needed`), an end is 0 or infinite.
        """
        ordered = np.sort(self.seconds) * 1e3
        n, share = len(ordered), percent / 100
        below = int(stats.binom.ppf(0.025, n, share)) - 1
        above = int(stats.binom.ppf(0.975, n, share))
        low = float(ordered[below]) if below >= 0 else 0.0
        return low, float(ordered[above]) if above < n else math.inf

    @property
    def throughput_per_s(self) -> float:
        """Sequences per second at the median latency."""
        return self.workload.batch / float(np.median(self.seconds))

    def to_samples(self) -> dict[str, Any]:
        """Everything, samples included, as plain data; `from_samples` reads it."""
        return {
            "contender": self.contender,
            "variant": self.variant,
            "provider": self.provider,
            "batch": self.workload.batch,
            "sequence": self.workload.sequence,
            "seconds": [float(f"{s:.7g}") for s in self.seconds],
        }

    @classmethod
    def from_samples(cls, data: Mapping[str, Any]) -> Latency:
        """Read what `to_samples` gave."""
        return cls(
            contender=data["contender"],
            variant=data["variant"],
            provider=data["provider"],
            workload=Workload(batch=data["batch"], sequence=data["sequence"]),
            seconds=tuple(data["seconds"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Statistics, as the report writes them."""
        low, high = self.interval_ms(50)
        return {
            "contender": self.contender,
            "variant": self.variant,
            "provider": self.provider,
            "batch": self.workload.batch,
            "sequence": self.workload.sequence,
            **{f"p{p}_ms": self.percentile_ms(p) for p in (50, 90, 95, 99)},
            "low_ms": low,
            "high_ms": high,
            "samples": len(self.seconds),
            "throughput_per_s": self.throughput_per_s,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """Something to measure."""

    name: str
    variant: str
    provider: str
    run: Runner


def measure(
    contenders: Sequence[Contender],
    workloads: Sequence[Workload],
    inputs: Mapping[Workload, Inputs],
    sampling: Mapping[Workload, Sampling],
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[Latency, ...]:
    """Measure every contender under every workload.

    Args:
        contenders: What to measure; each gets the same inputs.
        workloads: In the order of the report.
        inputs: Of each workload, see `workload_inputs`.
        sampling: When to stop, per workload.
        progress: Told after every workload.
    """
    results: list[Latency] = []
    progress("latency", 0, len(workloads))
    for done, workload in enumerate(workloads, start=1):
        samples = _rounds([c.run for c in contenders], inputs[workload], sampling[workload])
        results += [
            Latency(
                contender=contender.name,
                variant=contender.variant,
                provider=contender.provider,
                workload=workload,
                seconds=tuple(seconds.tolist()),
            )
            for contender, seconds in zip(contenders, samples, strict=True)
        ]
        progress("latency", done, len(workloads))
    return tuple(results)


def samples_needed(percent: float) -> int:
    """Samples that bound a percentile from above with 97.5 % confidence, and a third more.

    Example:
        >>> [samples_needed(p) for p in (50, 90, 95, 99)]
        [8, 47, 96, 490]
    """
    return math.ceil(4 / 3 * math.log(0.025) / math.log(percent / 100))


def speedup(teacher: Latency, student: Latency, seed: int = 0) -> tuple[float, float, float]:
    """Ratio of the medians and its 95 % interval, resampling rounds in pairs."""
    pairs = np.array([teacher.seconds, student.seconds])
    draws = np.random.default_rng(seed).integers(0, pairs.shape[1], (RESAMPLES, pairs.shape[1]))
    medians = np.median(pairs[:, draws], axis=2)
    low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
    ratio = np.median(pairs[0]) / np.median(pairs[1])
    return float(ratio), float(low), float(high)


def workload_inputs(workload: Workload, vocab_size: int, seed: int = 0) -> Inputs:
    """Random token ids without padding: each `(batch, sequence)`, int64."""
    shape = (workload.batch, workload.sequence)
    ids = np.random.default_rng(seed).integers(5, vocab_size, shape, dtype=np.int64)
    return {
        "input_ids": ids,
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }


def interleaved(
    runs: Sequence[Runner],
    inputs: Inputs,
    enough: Callable[[Sequence[Sequence[float]], float], bool],
    warmup: int = 3,
) -> NDArray[np.float64]:
    """Seconds of every run in rounds of random order: `(rounds, runs)`.

    Args:
        runs: What to time.
        inputs: Given to each.
        enough: Asked after every round, with all rounds and the seconds since the first.
        warmup: Untimed calls of each before the first.
    """
    for run in runs:
        for _ in range(warmup):
            run(inputs)
    generator = np.random.default_rng(0)
    rounds: list[list[float]] = []
    start = time.perf_counter()
    while not rounds or not enough(rounds, time.perf_counter() - start):
        row = [0.0] * len(runs)
        for index in generator.permutation(len(runs)):
            row[index] = _timed(runs[index], inputs)
        rounds.append(row)
    return np.array(rounds)


def _rounds(runs: Sequence[Runner], inputs: Inputs, sampling: Sampling) -> NDArray[np.float64]:
    """Samples of each run, `(runs, rounds)`."""

    def enough(rounds: Sequence[Sequence[float]], seconds: float) -> bool:
        patience = len(rounds) >= sampling.least and seconds > sampling.seconds
        return patience or len(rounds) >= sampling.rounds

    return interleaved(runs, inputs, enough, sampling.warmup).T


def _timed(run: Runner, inputs: Inputs) -> float:
    start = time.perf_counter()
    run(inputs)
    return time.perf_counter() - start
