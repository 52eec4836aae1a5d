"""Several tasks side by side, and their average, as GLUE is summed up. Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.speed import shown_workload
from compress.errors import DataError

__all__ = ["average_page", "averages"]

Report = Mapping[str, Any]


def averages(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """One record a report, then the average: the mean over tasks of each task's mean metric.

    The average's interval adds up those of its parts as independent, which tasks are.

    Raises:
        DataError: A report holds no accuracy, or two are of one task.
    """
    rows = [row for report in reports if (row := _task(report)) is not None]
    names = [row["task"] for row in rows]
    if len(rows) < len(reports) or len(set(names)) < len(names):
        raise DataError(
            f"several reports must each be of another task and hold accuracy, found "
            f"{', '.join(names) or 'none with accuracy'} in {len(reports)} reports; measure with "
            "--task, or leave one out"
        )
    if len(rows) > 1:
        down = math.sqrt(sum((r["retention"] - r["low"]) ** 2 for r in rows)) / len(rows)
        up = math.sqrt(sum((r["high"] - r["retention"]) ** 2 for r in rows)) / len(rows)
        kept = _mean([r["retention"] for r in rows])
        rows.append(
            {
                "task": "average",
                "variant": "",
                "teacher": _mean([r["teacher"] for r in rows]),
                "student": _mean([r["student"] for r in rows]),
                "retention": kept,
                "low": kept - down,
                "high": kept + up,
                "speedup": None,
                "verdict": "",
            }
        )
    return rows


def average_page(reports: Sequence[Report]) -> str:
    """A Markdown table of tasks with their average."""
    lines = [
        "| task | variant | teacher | student | kept | 95 % interval | speed-up | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in averages(reports):
        speedup = "–" if row["speedup"] is None else f"{row['speedup']:.2f}×"
        lines.append(
            f"| {row['task']} | {row['variant']} | {row['teacher']:.4f} | {row['student']:.4f} | "
            f"{row['retention']:.1%} | {row['low']:.1%} to {row['high']:.1%} | {speedup} | "
            f"{row['verdict']} |"
        )
    return "\n".join([*lines, ""])


def _task(report: Report) -> dict[str, Any] | None:
    """A report's task: its metrics averaged, of the variant that it is about."""
    rows = report["accuracy"]
    if not rows:
        return None
    reference = report["reference"]
    variant = reference["variant"] if reference else rows[-1]["variant"]
    contender = "student" if reference else rows[-1]["contender"]
    own = [row for row in rows if (row["contender"], row["variant"]) == (contender, variant)]
    place = shown_workload(report)
    fast = [
        row["ratio"]
        for row in report["speedups"]
        if (row["contender"], row["variant"]) == (contender, variant)
        and (row["batch"], row["sequence"]) == place
    ]
    if not own:  # measured where that variant does not run
        return None
    means = {
        name: _mean([row[name] for row in own])
        for name in ("teacher", "student", "retention", "low", "high")
    }
    return {
        "task": own[0]["task"],
        "variant": variant,
        **means,
        "speedup": fast[0] if fast else None,
        "verdict": report["verdict"],
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
