"""A sweep under way, as a terminal or a log shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import Progress

from compress_export.console import bars, note
from compress_export.sweep.ledger import Ledger

__all__ = ["Shown", "shown"]

_MOST_LINES = 8


class Shown:
    """Told of every change: bars on a terminal, a line for each run that is over elsewhere."""

    def __init__(self, bars: Progress | None) -> None:
        self._bars = bars
        self._whole = None if bars is None else bars.add_task("runs", total=None)
        self._lines = [] if bars is None else [
            bars.add_task("", total=None, visible=False) for _ in range(_MOST_LINES)
        ]  # fmt: skip
        self._over: set[str] = set()

    def __call__(self, ledger: Ledger, under_way: dict[str, str]) -> None:
        """Show what is done and what is under way."""
        over = [e for e in ledger.entries.values() if e.state != "waiting"]
        if self._bars is None or self._whole is None:
            for entry in over:
                if entry.run not in self._over and entry.state == "done":
                    note(
                        f"{len(over)} of {len(ledger.entries)} runs: {entry.run} ({entry.verdict})"
                    )
                self._over.add(entry.run)
            return
        self._bars.update(self._whole, completed=len(over), total=len(ledger.entries))
        told = [f"  {run}: {where}" for run, where in under_way.items()]
        for index, line in enumerate(self._lines):
            known = index < len(told)
            self._bars.update(line, description=told[index] if known else "", visible=known)


@contextmanager
def shown() -> Iterator[Shown]:
    """For the length of the block, on stderr."""
    with bars() as lines:
        yield Shown(lines)
