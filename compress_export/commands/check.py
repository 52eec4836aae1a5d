"""`check`: a report's own gates, and what changed since an earlier report."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import typer

from benchmarks.formats import job_summary, write_as
from benchmarks.gate import Gate, overall, unmeasured
from benchmarks.regression import Limits, regressions
from compress.errors import RecipeError
from compress_export.console import note, table
from compress_export.console import out as console
from compress_export.exits import STATUS
from compress_export.reports import kept_changes, read_report


def run(
    path: Path,
    baseline: Path | None,
    pinned: Path | None,
    limits: dict[str, float],
    *,
    fused: bool,
    parity: bool,
    clock: bool,
    first: bool,
    junit: Path | None,
    summary: Path | None,
    as_json: bool,
) -> None:
    """Judge the report at `path`, print and write the gates, exit by the verdict.

    `pinned` is a report that stays, where `baseline` moves on: small losses add up.
    """
    report = read_report(path)
    gates = [_gate(fields) for fields in report["gates"]]
    earlier = {"baseline": baseline, "pinned baseline": pinned}
    if limits and baseline is None and pinned is None:
        name = next(iter(limits))
        raise RecipeError(f"--{name} needs --baseline, found none; name the earlier report")
    _check_writable("--junit", junit)
    _check_writable("--summary", summary)
    for what, place in earlier.items():
        if place is None:
            continue
        if first and not _exists(place):
            note(f"no {what} at {place} yet; it is left out")
            continue
        wanted = _limits(report, limits, fused, parity)
        asked = limits.keys() | _asked_by_recipe(report)
        found = _regressions(path, place, report, wanted, asked, clock=clock)
        gates += [_renamed(gate, what) for gate in found] if place is pinned else found
    verdict = overall(gates)
    judged = report | {"gates": [gate.to_dict() for gate in gates], "verdict": verdict}
    if junit is not None:
        junit.write_text(write_as(judged, "junit"), encoding="utf-8")
    if summary is not None:
        with summary.open("a", encoding="utf-8") as file:
            file.write(job_summary(report["title"], gates))
    if as_json:
        console.print_json(json.dumps({"verdict": verdict, "gates": judged["gates"]}))
    elif gates:
        _print(report["title"], gates)
        console.print(f"verdict: {verdict}")
    else:
        console.print("no gates: nothing was promised; name a --baseline, or give the recipe gates")
    if STATUS[verdict]:
        raise typer.Exit(STATUS[verdict])


def _renamed(gate: Gate, what: str) -> Gate:
    return replace(gate, name=f"{gate.name}, since the {what}")


def _exists(baseline: Path) -> bool:
    return baseline.is_file() or (baseline / "report.json").is_file()


def _regressions(
    path: Path,
    baseline: Path,
    report: dict[str, Any],
    limits: Limits,
    asked: Collection[str],
    *,
    clock: bool,
) -> list[Gate]:
    """Gates against one earlier report; a limit that was asked for and not judged is not passed."""
    changes = kept_changes(path, baseline, report)
    gates = regressions(report, read_report(baseline), limits, clock=clock, kept=changes)
    judged = {gate.limit for gate in gates}
    missing = [unmeasured(f"{n}, not measured in both") for n in asked if n not in judged]
    return gates + missing


def _check_writable(option: str, file: Path | None) -> None:
    if file is not None and not (file.parent.is_dir() and not file.is_dir()):
        raise RecipeError(f"{option} must be a file in a folder that exists, found {file}; make it")


def _asked_by_recipe(report: dict[str, Any]) -> set[str]:
    """Limits of the recipe that are not the defaults: somebody counts on them."""
    own = (report["recipe"] or {}).get("gate", {}).get("regression", {})
    usual = asdict(Limits())
    return {name for name, value in own.items() if value is not None and value != usual[name]}


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
