"""How much of this process's cores others took while something was measured.

On a machine with a busy neighbour a session may lie on the slow core from its opening to its end,
so that equals differ by half, time after time: no statistics of the samples can know that.
"""

from __future__ import annotations

import os
import time

import psutil

__all__ = ["BUSY", "Neighbours"]

BUSY = 0.2
"""Share of the cores taken by others beyond which timings decide nothing."""

_LEAST_SECONDS = 1.0
"""Shorter measurements cannot tell: the kernel counts in hundredths of a second."""


class Neighbours:
    """Counts from its making on; adds up over pauses."""

    def __init__(self) -> None:
        self._seconds = self._others = 0.0
        self._cores = _cores()
        self._start = self._now()

    def resume(self) -> None:
        """Leave out what passed since the last look."""
        self._start = self._now()

    def look(self) -> None:
        """Add what passed since the start, or since `resume`."""
        wall, busy, own = (b - a for a, b in zip(self._start, self._now(), strict=True))
        self._seconds += wall
        self._others += max(busy - own, 0.0)
        self._start = self._now()

    @property
    def share(self) -> float:
        """Of the cores' time, what others took; 0 where too little was seen to say."""
        if self._seconds < _LEAST_SECONDS:
            return 0.0
        return min(self._others / (self._seconds * len(self._cores)), 1.0)

    def _now(self) -> tuple[float, float, float]:
        """Wall clock, busy seconds of the cores, and our own processor seconds."""
        times = psutil.cpu_times(percpu=True)
        busy = sum(_busy(times[core]) for core in self._cores if core < len(times))
        return time.perf_counter(), busy, _own()


def _busy(core: object) -> float:
    """Seconds that a core worked, for whomever; what the host took away is work for others."""
    idle = ("idle", "iowait", "guest", "guest_nice")  # guests are counted in user already
    fields = core._asdict()  # type: ignore[attr-defined]
    return float(sum(value for name, value in fields.items() if name not in idle))


def _own() -> float:
    """Processor seconds of this process and of those that it started."""
    me = psutil.Process()
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:  # it ended meanwhile
            continue
        total += times.user + times.system
        if process is me:
            total += times.children_user + times.children_system
    return total


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
