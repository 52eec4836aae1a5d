"""Rounds: every contender once, in random order, until the sample says enough.

A drift of the machine, and the traces of the contender before, fall on all alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.statistics import half_widths

__all__ = ["Call", "Enough", "Sampling", "interleaved", "timed"]

Array: TypeAlias = NDArray[np.float64]
Call: TypeAlias = Callable[[], float]
"""One inference on inputs that are already there; returns the seconds that it took."""
Enough: TypeAlias = Callable[[Sequence[Sequence[float]], float], bool]
"""Asked after every round, with the seconds of all rounds and the time since the first."""

_WARM_SECONDS = 3.0
_WARM_ROUNDS = 30
_SETTLED = 0.97


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """When to stop.

    Attributes:
        precision: Relative half-width of the 95 % interval of every ratio to the first contender
            (of the median, where there is but one) that is precise enough, once there are `wanted`
            rounds. What openings differ by comes on top, see `paired_ratio`.
        wanted: Rounds before which precision is not enough; 72 bound the 95th percentile.
        least: Rounds, whatever the time.
        rounds: Rounds, at most.
        seconds: Time, once there are `least` rounds.
    """

    precision: float = 0.02
    wanted: int = 72
    least: int = 15
    rounds: int = 400
    seconds: float = 8.0

    def enough(self, rounds: Sequence[Sequence[float]], seconds: float) -> bool:
        """Whether to stop after these rounds."""
        if len(rounds) < min(self.least, self.rounds):
            return False
        if len(rounds) >= self.rounds or seconds > self.seconds:
            return True
        return len(rounds) >= self.wanted and self._reached(np.array(rounds))

    def _reached(self, rounds: Array) -> bool:
        ratios = rounds[:, 1:] / rounds[:, :1] if rounds.shape[1] > 1 else rounds
        return bool((half_widths(ratios, absolute=True) <= self.precision).all())

    def share(self, parts: int) -> Sampling:
        """What each of so many parts must do, so that all together do this."""
        return Sampling(
            precision=self.precision * math.sqrt(parts),
            wanted=math.ceil(self.wanted / parts),
            least=math.ceil(self.least / parts),
            rounds=math.ceil(self.rounds / parts),
            seconds=self.seconds / parts,
        )


def interleaved(calls: Sequence[Call], enough: Enough, seed: int = 0) -> Array:
    """Seconds of every call in rounds of random order: `(rounds, calls)`.

    Untimed rounds go first, until no call gets faster any more.

    Args:
        calls: What to time.
        enough: When to stop.
        seed: Of the order.
    """
    generator = np.random.default_rng(seed)
    _warm_up(calls, generator)
    rounds: list[list[float]] = []
    start = time.perf_counter()
    while not rounds or not enough(rounds, time.perf_counter() - start):
        rounds.append(_round(calls, generator))
    return np.array(rounds)


def timed(run: Callable[[], object]) -> Call:
    """A call that is over when it returns, by the wall clock."""

    def call() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return call


def _warm_up(calls: Sequence[Call], generator: np.random.Generator) -> None:
    """At least three rounds, and on while the fastest of the last three is a gain on all before."""
    rounds: list[list[float]] = []
    start = time.perf_counter()
    while len(rounds) < _WARM_ROUNDS:
        rounds.append(_round(calls, generator))
        if len(rounds) >= 3 and time.perf_counter() - start > _WARM_SECONDS:
            return
        if len(rounds) >= 6:
            last, before = np.min(rounds[-3:], axis=0), np.min(rounds[:-3], axis=0)
            if (last >= _SETTLED * before).all():
                return


def _round(calls: Sequence[Call], generator: np.random.Generator) -> list[float]:
    row = [0.0] * len(calls)
    for index in generator.permutation(len(calls)):
        row[index] = calls[index]()
    return row
