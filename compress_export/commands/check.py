"""`check`: a report's own gates, and what changed since an earlier report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from benchmarks.formats import job_summary, write_as
from benchmarks.gate import Gate, overall
from benchmarks.regression import Limits, regressions
from compress_export.commands.run import STATUS
from compress_export.console import out as console
from compress_export.console import table
from compress_export.reports import kept_changes, read_report


def run(
    path: Path,
    baseline: Path | None,
    limits: dict[str, float],
    *,
    fused: bool,
    parity: bool,
    clock: bool,
    junit: Path | None,
    summary: Path | None,
    as_json: bool,
) -> None:
    """Judge the report at `path`, print and write the gates, exit by the verdict."""
    report = read_report(path)
    gates = [_gate(fields) for fields in report["gates"]]
    if baseline is not None:
        before = read_report(baseline)
        wanted = _limits(report, limits, fused, parity)
        changes = kept_changes(path, baseline, report)
        gates += regressions(report, before, wanted, clock=clock, kept=changes)
    verdict = overall(gates)
    judged = report | {"gates": [gate.to_dict() for gate in gates], "verdict": verdict}
    if junit is not None:
        junit.write_text(write_as(judged, "junit"), encoding="utf-8")
    if summary is not None:
        with summary.open("a", encoding="utf-8") as file:
            file.write(job_summary(report["title"], gates))
    if as_json:
        console.print_json(json.dumps({"verdict": verdict, "gates": judged["gates"]}))
    else:
        _print(report["title"], gates)
        console.print(f"verdict: {verdict}")
    if STATUS[verdict]:
        raise typer.Exit(STATUS[verdict])


def _limits(report: dict[str, Any], given: dict[str, float], fused: bool, parity: bool) -> Limits:
    """Flags over the recipe's `gate.regression`, over the defaults."""
    recipe = report["recipe"] or {}
    own = recipe.get("gate", {}).get("regression", {})
    return Limits(**(own | given), fused=fused, parity=parity)


def _gate(fields: dict[str, Any]) -> Gate:
    high = float("inf") if fields["high"] is None else fields["high"]
    return Gate(**(fields | {"high": high}))


def _print(title: str, gates: list[Gate]) -> None:
    rows = [
        [g.name, f"{g.threshold:.4g}", f"{g.value:.4g}", f"{g.low:.4g} to {g.high:.4g}", g.verdict]
        for g in gates
    ]
    table(title, ["gate", "threshold", "measured", "95 % interval", "verdict"], rows)
