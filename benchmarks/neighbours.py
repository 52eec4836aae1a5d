"""How much of this process's cores others took while something was measured.

On a machine with a busy neighbour a session may lie on the slow core from its opening to its end,
so that equals differ by half, time after time: no statistics of the samples can know that.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

__all__ = ["BUSY", "Neighbours", "throttled_seconds"]

BUSY = 0.2
"""Share of the cores taken by others beyond which timings decide nothing."""

_LEAST_SECONDS = 0.2
"""Shorter measurements cannot tell: the kernel counts in hundredths of a second."""


class Neighbours:
    """Counts from its making on; adds up over pauses."""

    def __init__(self) -> None:
        self._seconds = self._others = self._throttled = 0.0
        self._cores = _cores()
        self._start = self._now()

    def resume(self) -> None:
        """Leave out what passed since the last look."""
        self._start = self._now()

    def look(self) -> None:
        """Add what passed since the start, or since `resume`."""
        wall, busy, own, stopped = (b - a for a, b in zip(self._start, self._now(), strict=True))
        self._seconds += wall
        self._throttled += stopped
        self._others += max(busy - own, 0.0)
        self._start = self._now()

    @property
    def share(self) -> float | None:
        """Of the cores' time, what others took; `None` where too little was seen to say.

        Time for which a quota stopped this process's control group counts as taken by others: the
        cores were there, and could not be used.
        """
        if self._seconds < _LEAST_SECONDS:
            return None
        lost = self._others + self._throttled
        return min(lost / (self._seconds * len(self._cores)), 1.0)

    def _now(self) -> tuple[float, float, float, float]:
        """Wall clock, busy seconds of the cores, our own, and seconds stopped by a quota."""
        times = psutil.cpu_times(percpu=True)
        busy = sum(_busy(times[core]) for core in self._cores if core < len(times))
        return time.perf_counter(), busy, _own(), throttled_seconds()


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


def throttled_seconds(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Seconds for which CPU quotas have stopped this process's control group so far.

    Args:
        root: Where control groups are mounted, of version 2 or 1.
    """
    for name, key, unit in (
        ("cpu.stat", "throttled_usec", 1e-6),
        ("cpu/cpu.stat", "throttled_time", 1e-9),
    ):
        try:
            lines = (root / name).read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        for line in lines:
            found, _, value = line.partition(" ")
            if found == key:
                return float(value) * unit
    return 0.0


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
