"""What the command line prints: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

__all__ = ["Report", "bars", "counted", "hush", "note", "out", "progress", "table"]

# In a log or a file there is no terminal to ask for its width.
# Nothing is markup: a path may hold square brackets.
out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)
_err = Console(stderr=True, highlight=False, markup=False)


def counted(count: int, noun: str) -> str:
    """How many there are, in words.

    Example:
        >>> counted(1, "run"), counted(2, "run")
        ('1 run', '2 runs')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class Report:
    """A progress callback: one bar a step on a terminal, one line a finished step elsewhere."""

    def __init__(self, bars: Progress | None) -> None:
        self._bars = bars
        self._started: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, label: str, done: int, total: int) -> None:
        """Show that `done` of `total` parts of the step `label` are through."""
        self._started.setdefault(label, time.perf_counter())
        if self._bars is not None:
            self._advance(self._bars, label, done, total)
        elif done >= total:
            seconds = time.perf_counter() - self._started[label]
            _err.print(f"{label}: {total}/{total}, {seconds:.1f} s")
        if done >= total:
            self._started.pop(label, None)
            self._tasks.pop(label, None)

    def _advance(self, bars: Progress, label: str, done: int, total: int) -> None:
        if label not in self._tasks:
            self._tasks[label] = bars.add_task(label, total=total)
        bars.update(self._tasks[label], completed=done, total=total)


class _Silent(Report):
    """Tells nobody."""

    def __call__(self, label: str, done: int, total: int) -> None:
        """Nothing."""


def note(text: str) -> None:
    """A line on stderr, above any bar."""
    _err.print(text, soft_wrap=True)


def hush() -> None:
    """Say nothing more on stderr: this process works for another, which tells."""
    _err.quiet = True


@contextmanager
def progress(quiet: bool = False) -> Iterator[Report]:
    """A `Report` on stderr for the length of the block; silent in all but the first process."""
    if os.environ.get("RANK", "0") != "0":
        yield _Silent(None)
        return
    if quiet:
        yield Report(None)
        return
    with bars() as shown:
        yield Report(shown)


@contextmanager
def bars() -> Iterator[Progress | None]:
    """Bars on stderr for the length of the block; none where it is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=_err) as shown:
        yield shown


def table(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: Collection[int] = (0,),
) -> None:
    """Print one table to stdout; columns are right-aligned but for those in `left`."""
    grid = Table(title=title, title_justify="left", title_style="bold")
    for index, name in enumerate(header):
        grid.add_column(name, justify="left" if index in left else "right")
    for row in rows:
        grid.add_row(*row)
    out.print(grid)
