"""Which run is best under gates: rows and bounds in, a row out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from compress.errors import RecipeError, VerificationError
from compress_export.sweep.results import Row

__all__ = ["AIMS", "Aim", "Bound", "NoneHoldsError", "best", "parse_bound", "rivals"]

Aim: TypeAlias = Literal["retention", "speedup", "size"]
AIMS: tuple[Aim, ...] = get_args(Aim)

_LATENCIES = {f"latency_ms.{p}": f"{p}_high_ms" for p in ("p50", "p90", "p95", "p99")}
_TAILS = [name for name in _LATENCIES if name != "latency_ms.p50"]
_RARE = "a percentile takes more samples: raise benchmark.seconds and benchmark.rounds"
_AT_LEAST = {"retention": "retention_low", "speedup": "speedup_low"}
_AT_MOST = _LATENCIES | {"size_mb": "size_mb"}
"""By gate, the end of the interval that is on its bad side; sizes are exact."""


class NoneHoldsError(VerificationError):
    """No run is within the gates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """A gate: what is looked at, and its limit."""

    name: str
    limit: float

    def holds(self, row: Row) -> bool:
        """Whether a row is surely within: by the end of its interval, where it has one."""
        return self.distance(row) <= 0

    def distance(self, row: Row) -> float:
        """How far a row is outside, as a share of the limit; negative within."""
        column = (_AT_LEAST | _AT_MOST)[self.name]
        value = row.get(column)
        if value is None:
            return float("inf")
        below = (self.limit - float(value)) / self.limit
        return below if self.name in _AT_LEAST else -below

    def __str__(self) -> str:
        return f"{self.name}={self.limit:g}"


def parse_bound(text: str) -> Bound:
    """A gate as the command line has it.

    Raises:
        RecipeError: It is not a known name with a number above 0.

    Example:
        >>> parse_bound("retention=0.98")
        Bound(name='retention', limit=0.98)
    """
    name, _, value = text.partition("=")
    known = [*_AT_LEAST, *_AT_MOST]
    number = re.fullmatch(r"\d+(\.\d+)?|\.\d+", value.strip())
    if name not in known or number is None or not float(value):
        raise RecipeError(
            f"--gate must be NAME=NUMBER, the number above 0, the name among {', '.join(known)}, "
            f"found {text!r}; such as retention=0.98"
        )
    return Bound(name=name, limit=float(value))


def best(rows: Sequence[Row], bounds: Sequence[Bound], aim: Aim | None = None) -> Row:
    """The row that is best among those within all bounds.

    Args:
        rows: Of a sweep.
        bounds: That must hold.
        aim: What is best; left out, what keeps most where speed is bound, else what is fastest.

    Raises:
        NoneHoldsError: None is within; the message names what comes nearest.
    """
    if within := _within(rows, bounds):
        return max(within, key=lambda row: _worth(row, aim or _aim(bounds)))
    measured = _within(rows, ())
    if not measured:
        raise NoneHoldsError(
            "a run must have been measured, found none in this sweep; let `sweep run` finish one"
        )
    told = ", ".join(map(str, bounds))
    nearest = min(measured, key=lambda row: max(bound.distance(row) for bound in bounds))
    worst = max(bounds, key=lambda bound: bound.distance(nearest))
    if worst.distance(nearest) == float("inf"):
        raise NoneHoldsError(
            f"no run is surely within {told}: of {nearest['run']} ({nearest['variant']}) "
            f"{worst.name} is not known for sure{'; ' + _RARE if worst.name in _TAILS else ''}"
        )
    raise NoneHoldsError(
        f"no run is surely within {told}; the nearest is {nearest['run']} ({nearest['variant']}), "
        f"which misses {worst} by {worst.distance(nearest):.1%} at the end of its interval"
    )


def rivals(
    rows: Sequence[Row], bounds: Sequence[Bound], winner: Row, aim: Aim | None = None
) -> list[Row]:
    """Other rows within all bounds that are not surely worse: their intervals overlap the winner's.

    Args:
        rows: Of a sweep.
        bounds: That must hold.
        winner: As `best` found it.
        aim: As `best` was given it; sizes are exact, and have no rivals.
    """
    column = aim or _aim(bounds)
    least = winner.get(f"{column}_low")
    if least is None:
        return []
    others = [row for row in _within(rows, bounds) if row is not winner]
    return [row for row in others if (row.get(f"{column}_high") or 0.0) >= least]


def _within(rows: Sequence[Row], bounds: Sequence[Bound]) -> list[Row]:
    """Measured rows that hold all bounds."""
    measured = (row for row in rows if row["variant"] is not None)
    return [row for row in measured if all(bound.holds(row) for bound in bounds)]


def _aim(bounds: Sequence[Bound]) -> Aim:
    return "retention" if any(bound.name != "retention" for bound in bounds) else "speedup"


def _worth(row: Row, aim: Aim) -> tuple[float, float]:
    speedup, retention = row.get("speedup") or 0.0, row["retention"]
    if aim == "size":
        return -float(row["size_bytes"] or float("inf")), retention
    return (retention, speedup) if aim == "retention" else (speedup, retention)
