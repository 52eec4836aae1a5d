"""A bundle against itself: how often a gate cries wolf on this machine, and what it can see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate import change_at_most
from benchmarks.latency import Latency, speedup
from benchmarks.statistics import paired_ratio

__all__ = ["Itself", "compare_with_itself"]

Array: TypeAlias = NDArray[np.float64]
Pair: TypeAlias = tuple[Latency, Latency]

SIMULATED = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Itself:
    """What comparing equals gave.

    Attributes:
        runs: Real ones, each with both sides opened anew, as often as a measurement does.
        gate: Relative change that would be an alarm.
        alarms: Runs that a gate would have failed, on either side; see `change_at_most`.
        simulated_alarms: Share that would have failed of 200 runs made of the recorded openings.
        excluding: Share of the runs' 95 % intervals that did not hold 1; 5 % is honest.
        largest: Largest relative difference that a run's estimate showed.
        resolution: Relative half-width of the typical interval: slowdowns beyond `gate` plus this
            are found, smaller ones may stay inconclusive.
    """

    runs: int
    gate: float
    alarms: int
    simulated_alarms: float
    excluding: float
    largest: float
    resolution: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def compare_with_itself(runs: Sequence[Pair], gate: float, seed: int = 0) -> Itself:
    """Judge runs of the same thing twice.

    Args:
        runs: Samples of the two sides.
        gate: Relative change that would be an alarm.
        seed: Of the simulation.
    """
    ratios = [speedup(*run) for run in runs]
    widths = [(high - low) / 2 for _, low, high in ratios]
    return Itself(
        runs=len(runs),
        gate=gate,
        alarms=sum(_alarm(*ratio, gate) for ratio in ratios),
        simulated_alarms=_simulated(runs, gate, seed),
        excluding=float(np.mean([not low <= 1 <= high for _, low, high in ratios])),
        largest=max(abs(ratio - 1) for ratio, _, _ in ratios),
        resolution=float(np.median(widths)),
    )


def _alarm(value: float, low: float, high: float, gate: float) -> bool:
    sides = ((value, low, high), (1 / value, 1 / high, 1 / low))
    return any(change_at_most("", gate, *side).verdict == "fail" for side in sides)


def _simulated(runs: Sequence[Pair], gate: float, seed: int) -> float:
    """Share of alarms in runs put together from the recorded openings, sides swapped at random."""
    generator = np.random.default_rng(seed)
    pool = [opening for run in runs for opening in _openings(run)]
    count = max(len(runs[0][0].parts), 1)
    alarms = 0
    for _ in range(SIMULATED):
        drawn = [pool[int(i)] for i in generator.integers(0, len(pool), count)]
        sides = [part[:, ::-1] if generator.random() < 0.5 else part for part in drawn]
        base, other = np.concatenate(sides).T
        ratio = paired_ratio(
            base, other, [len(part) for part in sides], seed=int(generator.integers(2**31))
        )
        alarms += _alarm(*ratio, gate)
    return alarms / SIMULATED


def _openings(run: Pair) -> list[Array]:
    """Seconds of the two sides, `(rounds, 2)` each opening."""
    both = np.stack([side.seconds for side in run], axis=1)
    return np.split(both, np.cumsum(run[0].parts)[:-1])
