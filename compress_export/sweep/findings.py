"""What a sweep found: winners under gates, Pareto sets, seeds pooled, what each choice adds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.report.findings import Column, Figure, Findings, Table
from benchmarks.report.speed import undominated
from compress_export.console import counted
from compress_export.studies.groups import grouped, spread
from compress_export.sweep.choose import Bound, NoneHoldsError, best
from compress_export.sweep.figure import draw_sweep
from compress_export.sweep.ledger import Ledger, State
from compress_export.sweep.results import Row, axis_column, rows_of

__all__ = ["sweep_findings"]

_SEED = "seed"
_COMPARABLE = ("task", "device", "batch", "sequence")
"""Columns that rows must share for their milliseconds to be compared."""


def sweep_findings(ledger: Ledger, bounds: Sequence[Bound]) -> Findings:
    """Tables and pictures over all runs.

    Args:
        ledger: Of the sweep.
        bounds: Gates to name a winner for, each by itself; those of the recipes are added.
    """
    rows = rows_of(ledger)
    axes = list(dict.fromkeys(a for entry in ledger.entries.values() for a in entry.labels))
    for row in rows:  # a search may have changed what it searches over
        row |= {axis_column(axis): row.get(axis_column(axis)) for axis in axes}
    measured = [row for row in rows if row["variant"] is not None]
    for row in measured:
        row["pareto"] = _is_best(row, measured)
    looked_at = [row for row in measured if row["reference"]]
    gates = list(dict.fromkeys([*bounds, *_promised(ledger)]))
    tables = [
        _winners(measured, gates),
        _pareto(measured, axes),
        _pooled(looked_at, axes),
        _adds(looked_at, axes),
        _failed(rows),
        Table(name="runs", title="Every run and variant", rows=rows, columns=_columns(axes)),
    ]
    return Findings(
        study="sweep",
        title=counted(len(ledger.entries), "run"),
        facts=_facts(ledger, axes),
        claims=(),
        tables=tables,
        figures=_figures(measured),
        limits=(
            "Latencies are those at the workload that a recipe's gates look at, on the device "
            "that is named; between devices they are not compared. They are of one moment: the "
            "teacher's median over all runs, divided by the run's speed-up over it. What a run "
            "itself took is in its report.",
            "Gates are those of the recipe, which look at one variant of a run.",
            "A winner among many runs looks better than it is: measure it once more, on data that "
            "no run has seen.",
        ),
    )


def _facts(ledger: Ledger, axes: Sequence[str]) -> Mapping[str, str]:
    entries = list(ledger.entries.values())
    values = {
        axis: ", ".join(dict.fromkeys(str(entry.labels.get(axis, "–")) for entry in entries))
        for axis in axes
    }
    states: tuple[State, ...] = ("done", "failed", "pruned", "waiting")
    counts = {state: len(ledger.in_state(state)) for state in states}
    seconds = sum(step["seconds"] for entry in entries for step in entry.steps.values())
    return values | {
        "runs": ", ".join(f"{count} {state}" for state, count in counts.items() if count),
        "work": f"{seconds / 3600:.1f} hours" if seconds > 3600 else f"{seconds / 60:.1f} minutes",
    }


def _columns(axes: Sequence[str]) -> list[Column]:
    return [
        *(Column(key=axis_column(axis), header=axis) for axis in axes),
        Column(key="variant", header="variant"),
        Column(key="metric", header="metric"),
        Column(key="student", header="student", format=".4f"),
        Column(key="retention", header="kept", format="%"),
        Column(key="retention_low", header="from", format="%"),
        Column(key="retention_high", header="to", format="%"),
        Column(key="speedup", header="speed-up", format=".2f"),
        Column(key="speedup_low", header="from", format=".2f"),
        Column(key="speedup_high", header="to", format=".2f"),
        Column(key="steady_ms", header="p50 at one moment, ms", format=".2f"),
        Column(key="size_mb", header="MB", format=".1f"),
        Column(key="gates", header="gates"),
    ]


def _promised(ledger: Ledger) -> list[Bound]:
    """Gates of the recipes."""
    found = []
    for entry in ledger.entries.values():
        gate = entry.recipe.get("gate") or {}
        limits = {name: gate.get(name) for name in ("retention", "speedup")}
        limits |= {f"latency_ms.{p}": ms for p, ms in (gate.get("latency_ms") or {}).items()}
        found += [Bound(name=n, limit=float(v)) for n, v in limits.items() if v is not None]
    return found


def _winners(rows: Sequence[Row], bounds: Sequence[Bound]) -> Table:
    won = []
    for place, own in grouped(rows, *_COMPARABLE):
        for bound in bounds:
            try:
                winner = best(own, [bound])
            except NoneHoldsError:
                won.append(place | {"gate": str(bound), "run": "none"})
                continue
            won.append({"gate": str(bound), **winner})
    return Table(
        name="winners",
        title="Best under each gate",
        rows=won,
        columns=[
            Column(key="task", header="task"),
            Column(key="batch", header="batch"),
            Column(key="sequence", header="tokens"),
            Column(key="gate", header="gate"),
            Column(key="run", header="run"),
            Column(key="variant", header="variant"),
            Column(key="retention", header="kept", format="%"),
            Column(key="speedup", header="speed-up", format=".2f"),
            Column(key="device", header="device"),
        ],
        note="A gate holds where the end of the 95 % interval does. Under a gate on accuracy the "
        "fastest is best, under one on speed what keeps most.",
    )


def _is_best(row: Row, rows: Sequence[Row]) -> bool:
    own = [r for r in rows if all(r[name] == row[name] for name in _COMPARABLE)]
    points = [(r["steady_ms"], r["retention"]) for r in own if r["steady_ms"] is not None]
    return (row["steady_ms"], row["retention"]) in undominated(points)


def _pareto(rows: Sequence[Row], axes: Sequence[str]) -> Table:
    shown = sorted(
        (row for row in rows if row["pareto"]),
        key=lambda row: (*(str(row[name]) for name in _COMPARABLE), row["steady_ms"]),
    )
    head = [Column(key=name, header=name) for name in _COMPARABLE]
    return Table(
        name="pareto",
        title="Pareto: nothing is both faster and keeps more",
        rows=shown,
        columns=[*head, *_columns(axes)],
    )


def _pooled(rows: Sequence[Row], axes: Sequence[str]) -> Table:
    """Seeds of one point together; nothing where there is one seed."""
    seeds = _SEED in axes
    keys = [axis_column(axis) for axis in axes if axis != _SEED] + ["device"]
    found = []
    for place, own in grouped(rows if seeds else [], *keys):
        kept, speedups = ([row[name] for row in own] for name in ("retention", "speedup"))
        found.append(
            place
            | {"seeds": len(own), "retention": fmean(kept), "within": spread(kept)}
            | {"speedup": fmean(speedups) if None not in speedups else None}
        )
    return Table(
        name="pooled",
        title="Seeds pooled",
        rows=found,
        columns=[
            *(Column(key=axis_column(axis), header=axis) for axis in axes if axis != _SEED),
            Column(key="seeds", header="seeds"),
            Column(key="retention", header="kept", format="%"),
            Column(key="within", header="±", format="%"),
            Column(key="speedup", header="speed-up", format=".2f"),
        ],
        note="± is half the 95 % interval of the mean over seeds (Student's t).",
    )


def _adds(rows: Sequence[Row], axes: Sequence[str]) -> Table:
    """Each value of an axis against its first, in runs that differ in nothing else."""
    found: list[Row] = []
    for axis in [axis for axis in axes if axis != _SEED]:
        column = axis_column(axis)
        others = [axis_column(other) for other in axes if other != axis] + ["device"]
        levels = list(dict.fromkeys(row[column] for row in rows))
        for level in levels[1:]:
            pairs = []
            for _, own in grouped(rows, *others):
                by = {row[column]: row for row in own}
                if levels[0] in by and level in by:
                    pairs.append((by[levels[0]], by[level]))
            found += _added(axis, levels[0], level, pairs)
    return Table(
        name="adds",
        title="What each choice adds",
        rows=found,
        columns=[
            Column(key="axis", header="axis"),
            Column(key="level", header="value"),
            Column(key="base", header="beside"),
            Column(key="pairs", header="pairs"),
            Column(key="kept", header="kept, difference", format="%"),
            Column(key="within", header="±", format="%"),
            Column(key="faster", header="speed, ratio", format=".2f"),
            Column(key="faster_within", header="±", format="%"),
        ],
        note="Runs are paired that differ in this axis alone; ± is half the 95 % interval of the "
        "mean over pairs (of ratios, the geometric mean), which stand for other tasks and seeds "
        "only as far as these do.",
    )


def _added(axis: str, base: str, level: str, pairs: Sequence[tuple[Row, Row]]) -> list[Row]:
    if not pairs:
        return []
    kept = [other["retention"] - first["retention"] for first, other in pairs]
    times = [(first["steady_ms"], other["steady_ms"]) for first, other in pairs]
    faster = [math.log(first / other) for first, other in times if first and other]
    within = spread(faster)
    return [
        {"axis": axis, "base": base, "level": level, "pairs": len(pairs), "kept": fmean(kept)}
        | {"within": spread(kept), "faster": math.exp(fmean(faster)) if faster else None}
        | {"faster_within": None if within is None else math.expm1(within)}
    ]


def _failed(rows: Sequence[Row]) -> Table:
    return Table(
        name="failed",
        title="Runs that failed or were stopped early",
        rows=[row for row in rows if row["state"] in ("failed", "pruned")],
        columns=[Column(key="run", header="run"), Column(key="error", header="why")],
    )


def _figures(rows: Sequence[Row]) -> list[Figure]:
    timed: list[dict[str, Any]] = [row for row in rows if row["steady_ms"] is not None]
    if not timed:
        return []
    caption = "What each run keeps at its median latency; what nothing beats is joined."
    return [Figure(name="pareto", caption=caption, svg=draw_sweep(timed))]
