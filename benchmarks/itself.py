"""A bundle against itself: how often a gate cries wolf on this machine, and what it can see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate import change_at_most
from benchmarks.statistics import paired_ratio

__all__ = ["Itself", "compare_with_itself"]

Array = NDArray[np.float64]

SIMULATED = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Itself:
    """What comparing equals gave.

    Attributes:
        runs: Real ones, each with both sides opened anew.
        gate: Relative change that would be an alarm.
        alarms: Runs that a gate would have failed, on either side; see `change_at_most`.
        simulated_alarms: Share of 200 runs drawn from the recorded rounds that did.
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


def compare_with_itself(runs: Sequence[Array], gate: float, seed: int = 0) -> Itself:
    """Judge runs of the same thing twice.

    Args:
        runs: Seconds of the two sides by round, each `(rounds, 2)`.
        gate: Relative change that would be an alarm.
        seed: Of the simulation.
    """
    ratios = [paired_ratio(run[:, 0], run[:, 1]) for run in runs]
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


def _simulated(runs: Sequence[Array], gate: float, seed: int) -> float:
    """Share of alarms in runs made of stretches of recorded rounds, sides swapped at random."""
    generator = np.random.default_rng(seed)
    alarms = 0
    for _ in range(SIMULATED):
        run = runs[int(generator.integers(len(runs)))]
        start = generator.integers(len(run))
        rows = (start + np.arange(len(run))) % len(run)
        swapped = generator.random(len(run)) < 0.5
        base = np.where(swapped, run[rows, 1], run[rows, 0])
        other = np.where(swapped, run[rows, 0], run[rows, 1])
        ratio = paired_ratio(base, other, seed=int(generator.integers(2**31)))
        alarms += _alarm(*ratio, gate)
    return alarms / SIMULATED
