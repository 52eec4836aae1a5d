"""Every figure of a report, one by one: what it is of, its value, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["Figure", "Kind", "figures"]

Kind: TypeAlias = Literal["latency", "throughput", "speedup", "retention", "memory", "load"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measured value.

    Attributes:
        kind: What was measured.
        labels: Of what: contender, variant, batch and so on.
        value: In `unit`.
        low, high: Its 95 % interval, where there is one.
        unit: `s`, `1/s`, `ratio` or `bytes`.
        smaller_is_better: Which way is good.
    """

    kind: Kind
    labels: dict[str, str]
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    smaller_is_better: bool = False

    @property
    def name(self) -> str:
        """Kind and labels in one line."""
        return " ".join([self.kind, *self.labels.values()])


def figures(report: Mapping[str, Any]) -> Iterator[Figure]:
    """All of a report's, in its order."""
    for row in report["latency"]:
        seconds = {"value": row["p50_ms"] / 1e3, "low": row["low_ms"] / 1e3}
        high = None if row["high_ms"] is None else row["high_ms"] / 1e3
        labels = _labels(row, "contender", "variant", "batch", "sequence")
        yield Figure(
            kind="latency", labels=labels, unit="s", high=high, smaller_is_better=True, **seconds
        )
        yield Figure(kind="throughput", labels=labels, unit="1/s", value=row["throughput_per_s"])
    for row in report["speedups"]:
        labels = _labels(row, "contender", "variant", "batch", "sequence")
        yield Figure(
            kind="speedup", labels=labels, unit="ratio", value=row["ratio"], low=row["low"],
            high=row["high"],
        )  # fmt: skip
    for row in report["accuracy"]:
        labels = _labels(row, "contender", "variant", "task", "metric")
        yield Figure(
            kind="retention", labels=labels, unit="ratio", value=row["retention"], low=row["low"],
            high=row["high"],
        )  # fmt: skip
    for row in report["memory"]:
        labels = _labels(row, "contender", "variant")
        value = float(row["working_bytes"])
        yield Figure(
            kind="memory", labels=labels, unit="bytes", value=value, smaller_is_better=True
        )
    for row in report["load"]:
        labels = _labels(row, "contender", "variant", "scenario")
        yield Figure(
            kind="load", labels=labels, unit=row["unit"], value=row["value"],
            smaller_is_better=row["unit"] == "s",
        )  # fmt: skip


def _labels(row: Mapping[str, Any], *names: str) -> dict[str, str]:
    return {name: str(row[name]) for name in names}
