"""All runs of a sweep as rows of one table: a row a run and variant, failed runs too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, TypeAlias

from benchmarks.neighbours import BUSY
from compress_export.studies.groups import grouped
from compress_export.sweep.ledger import Entry, Ledger

__all__ = ["SAME_TEACHER", "Row", "at_moment", "axis_column", "measured_rows", "rows_of"]

SAME_TEACHER = ("model", "device", "teacher_variant", "batch", "sequence")
"""Columns that say which measurements are of one and the same teacher."""

_PERCENTILES = ("p50", "p90", "p95", "p99")

Row: TypeAlias = dict[str, Any]


def axis_column(axis: str) -> str:
    """The column of an axis' labels."""
    return f"axis.{axis}"


def rows_of(ledger: Ledger) -> list[Row]:
    """Every run: what it was, where it ran, what it kept and how fast it is.

    Latencies and speed-ups are those at the workload that the recipe's gates look at.
    """
    rows: list[Row] = []
    for entry in ledger.entries.values():
        if entry.state == "done":
            rows += measured_rows(entry, ledger.report(entry.run))
        else:
            rows.append(_facts(entry) | {"variant": None})
    _steady([row for row in rows if row["variant"] is not None])
    return rows


def _facts(entry: Entry) -> Row:
    """What is the same for all variants of a run."""
    found: Row = {"run": entry.run, "key": entry.key}
    found |= {axis_column(axis): str(label) for axis, label in entry.labels.items()}
    task = entry.recipe.get("task")
    found |= {
        "model": str(entry.recipe.get("model")),
        "task": task if isinstance(task, str) else "own data",
        "seed": int(entry.recipe.get("seed") or 0),
        "state": entry.state,
        "error": entry.error or None,
        "verdict": entry.verdict or None,
        "device": entry.kind,
    }
    for step, done in entry.steps.items():
        found[f"seconds.{step}"] = float(done["seconds"])
        found[f"node.{step}"] = str(done["node"])
    return found


def measured_rows(entry: Entry, report: Mapping[str, Any]) -> list[Row]:
    """A row for each variant of a finished run."""
    where = report["reference"]
    place = (where["batch"], where["sequence"])
    latency, teacher = (_at(report["latency"], place, who) for who in ("student", "teacher"))
    speedups = _at(report["speedups"], place)
    accuracy: dict[str, Mapping[str, Any]] = {}
    for row in report["accuracy"]:
        accuracy.setdefault(row["variant"], row)  # the task's first metric
    models = report["models"]
    sizes = {
        f"{name}_kept": models["student"][name] / models["teacher"][name]
        for name in ("encoder_parameters", "encoder_macs")
    }
    facts = _facts(entry) | {"batch": place[0], "sequence": place[1]} | sizes
    [(name, timed)] = teacher.items()
    facts |= {"teacher_variant": name, "teacher_ms": timed["p50_ms"]}
    rows = []
    megabytes = {name: size / 1e6 for name, size in report["size_bytes"].items()}
    for variant in [v for v in latency if v in accuracy]:
        kept, time, fast = accuracy[variant], latency[variant], speedups.get(variant, {})
        rows.append(
            facts
            | {"variant": variant, "reference": variant == where["variant"]}
            | {"gates": entry.verdict if variant == where["variant"] else None}
            | {"metric": kept["metric"], "teacher": kept["teacher"], "student": kept["student"]}
            | {"retention": kept["retention"], "retention_low": kept["low"]}
            | {"retention_high": kept["high"], "size_bytes": report["size_bytes"].get(variant)}
            | {"size_mb": megabytes.get(variant)}
            | {f"{p}_ms": time.get(f"{p}_ms") for p in _PERCENTILES}
            | {"speedup": fast.get("ratio"), "speedup_high": fast.get("high")}
            | _sure(time, fast)
        )
    return rows


def _sure(time: Mapping[str, Any], fast: Mapping[str, Any]) -> Row:
    """The ends of intervals that a gate on time looks at; none where others were at work."""
    ends = {f"{p}_high_ms": time.get(f"{p}_high_ms") for p in _PERCENTILES}
    ends |= {"speedup_low": fast.get("low")}
    taken = time.get("others", 0.0)
    return dict.fromkeys(ends) if taken is None or taken > BUSY else ends


def _steady(rows: Sequence[Row]) -> None:
    """Add `steady_ms`: latencies as if all runs of a teacher had been timed at one moment.

    Each run times its student and its teacher side by side, and a machine is faster at one moment
    than at another. So a run's speed-up stands, and the teacher's time is the median of what it
    took in all of them.
    """
    for _, own in grouped(rows, *SAME_TEACHER):
        of_runs = {row["run"]: row["teacher_ms"] for row in own}
        for row in own:
            row["steady_ms"] = at_moment(row, median(of_runs.values()))


def at_moment(row: Row, teacher_ms: float) -> float:
    """A row's median latency in ms as if its teacher had taken so long."""
    found = teacher_ms / row["speedup"] if row["speedup"] else row["p50_ms"]
    return float(found)


def _at(
    rows: Sequence[Mapping[str, Any]], place: tuple[int, int], contender: str = "student"
) -> dict[str, Mapping[str, Any]]:
    """A contender's rows at a workload, by variant."""
    there = [r for r in rows if (r["batch"], r["sequence"]) == place]
    return {r["variant"]: r for r in there if r["contender"] == contender}
