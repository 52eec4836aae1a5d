"""Latency of several contenders, interleaved in one process.

Samples are kept whole; statistics are derived from them (`benchmarks.statistics`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.neighbours import Neighbours
from benchmarks.rounds import Call, Sampling, interleaved
from benchmarks.statistics import (
    carries,
    drift,
    opening_spread,
    paired_ratio,
    percentile_interval,
)
from compress.plan.workload import Workload

__all__ = [
    "OPENINGS",
    "PERCENTILES",
    "Contender",
    "Inputs",
    "Latency",
    "measure",
    "rounded",
    "speedup",
    "workload_inputs",
]

Inputs: TypeAlias = Mapping[str, NDArray[np.int64]]
Prepare: TypeAlias = Callable[[Inputs], Call]
Array: TypeAlias = NDArray[np.float64]

OPENINGS = 4
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
_QUANTILES = tuple(range(0, 101, 5))


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Samples of one contender under one workload.

    Attributes:
        contender: `teacher`, `student`, or the name that the user gave.
        variant: Of its bundle, or the runtime where there is no bundle.
        provider: Where it ran.
        workload: What it was given.
        seconds: One wall-clock sample a round; round i of all contenders belongs together.
        parts: Rounds of each time that the contenders were opened anew, in order.
        others: Share of the cores that other processes took meanwhile, see `Neighbours`; `None`
            where the measurement was too short to say.
    """

    contender: str
    variant: str
    provider: str
    workload: Workload
    seconds: tuple[float, ...]
    parts: tuple[int, ...] = ()
    others: float | None = 0.0

    def percentile_ms(self, percent: float) -> float:
        """A percentile of the samples, in milliseconds."""
        return float(np.percentile(self.seconds, percent) * 1e3)

    def carried_ms(self, percent: float) -> float | None:
        """A percentile, if there are samples enough to bound it from above; else nothing."""
        return self.percentile_ms(percent) if carries(len(self.seconds), percent) else None

    def interval_ms(self, percent: float) -> tuple[float, float]:
        """95 % interval of a percentile, in milliseconds.

        From the order statistics (`percentile_interval`), and as wide at least as medians differ
        from opening to opening.
        """
        low, high = percentile_interval(self.seconds, percent, self.parts)
        wider = opening_spread(np.log(self.seconds), self.parts)
        value = self.percentile_ms(percent)
        return min(low * 1e3, value / wider), max(high * 1e3, value * wider)

    def _high_ms(self, percent: float) -> float | None:
        """Upper end of a percentile's interval, if there are samples enough for one."""
        high = self.interval_ms(percent)[1]
        return None if np.isinf(high) else high

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
            "parts": list(self.parts),
            "others": self.others,
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
            parts=tuple(data["parts"]),
            others=data["others"],
        )

    def to_dict(self) -> dict[str, Any]:
        """Statistics, as the report writes them; a percentile that is not carried is null."""
        low, high = self.interval_ms(50)
        shape = np.percentile(self.seconds, _QUANTILES) * 1e3
        return {
            "contender": self.contender,
            "variant": self.variant,
            "provider": self.provider,
            "batch": self.workload.batch,
            "sequence": self.workload.sequence,
            **{field_of(p): self.carried_ms(p) for p in PERCENTILES},
            **{f"{field_of(p).removesuffix('_ms')}_high_ms": self._high_ms(p) for p in PERCENTILES},
            "p50_ms": self.percentile_ms(50),
            "low_ms": low,
            "high_ms": None if np.isinf(high) else high,
            "samples": len(self.seconds),
            "openings": max(len(self.parts), 1),
            "others": rounded(self.others),
            "throughput_per_s": self.throughput_per_s,
            "drift": drift(self.seconds),
            "quantiles_ms": [float(f"{ms:.5g}") for ms in shape],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """Something to measure.

    Attributes:
        name: Of its own.
        variant: Of its bundle, or the runtime where there is no bundle.
        provider: Where it runs.
        open: Loads it, for the length of a context; what that gives puts inputs in place and gives
            the call to be timed.
    """

    name: str
    variant: str
    provider: str
    open: Callable[[], AbstractContextManager[Prepare]]


def measure(
    contenders: Sequence[Contender],
    workloads: Sequence[Workload],
    inputs: Mapping[Workload, Inputs],
    sampling: Mapping[Workload, Sampling],
    progress: Callable[[str, int, int], None] = lambda *_: None,
    openings: int = OPENINGS,
) -> tuple[Latency, ...]:
    """Measure every contender under every workload.

    All contenders are open at once, and are opened anew several times: see `paired_ratio`.

    Args:
        contenders: What to measure; each gets the same inputs.
        workloads: In the order of the report.
        inputs: Of each workload, see `workload_inputs`.
        sampling: When to stop, per workload.
        progress: Told after every workload.
        openings: How many times.
    """
    samples: dict[Workload, list[Array]] = {workload: [] for workload in workloads}
    neighbours = {workload: Neighbours() for workload in workloads}
    total = openings * len(workloads)
    progress("latency", 0, total)
    for opening in range(openings):
        for workload, rounds in _opened(
            contenders, inputs, sampling, openings, opening, neighbours
        ):
            samples[workload].append(rounds)
            progress("latency", sum(map(len, samples.values())), total)
    return tuple(
        Latency(
            contender=contender.name,
            variant=contender.variant,
            provider=contender.provider,
            workload=workload,
            seconds=tuple(seconds.tolist()),
            parts=tuple(map(len, parts)),
            others=neighbours[workload].share,
        )
        for workload, parts in samples.items()
        for contender, seconds in zip(contenders, np.concatenate(parts).T, strict=True)
    )


def _opened(
    contenders: Sequence[Contender],
    inputs: Mapping[Workload, Inputs],
    sampling: Mapping[Workload, Sampling],
    openings: int,
    opening: int,
    neighbours: Mapping[Workload, Neighbours],
) -> Iterator[tuple[Workload, Array]]:
    """Rounds of one opening, workload by workload; all is closed at the end."""
    with ExitStack() as stack:
        prepares = [stack.enter_context(contender.open()) for contender in contenders]
        for place, workload in enumerate(neighbours):
            calls = [prepare(inputs[workload]) for prepare in prepares]
            enough = sampling[workload].share(openings).enough
            neighbours[workload].resume()
            rounds = interleaved(calls, enough, seed=opening * len(neighbours) + place)
            neighbours[workload].look()
            yield workload, rounds


def speedup(teacher: Latency, student: Latency) -> tuple[float, float, float]:
    """How many times as fast the student is, and its 95 % interval; see `paired_ratio`."""
    return paired_ratio(teacher.seconds, student.seconds, teacher.parts)


def rounded(share: float | None) -> float | None:
    """A share of the cores, as reports write it."""
    return None if share is None else round(share, 4)


def field_of(percent: float) -> str:
    """The report's name of a percentile: `p50_ms`, `p99_9_ms`."""
    return f"p{percent:g}_ms".replace(".", "_")


def workload_inputs(workload: Workload, vocab_size: int, seed: int = 0) -> Inputs:
    """Random token ids without padding: each `(batch, sequence)`, int64."""
    shape = (workload.batch, workload.sequence)
    ids = np.random.default_rng(seed).integers(5, vocab_size, shape, dtype=np.int64)
    return {
        "input_ids": ids,
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }
