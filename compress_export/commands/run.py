"""`run`: all of it, from a recipe to a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from benchmarks.gate import Verdict
from benchmarks.report.write import headline
from compress.batches import silent
from compress.prune import predict
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.pipeline import Outcome, Run
from compress_export.recipe import load_recipe

STATUS: dict[Verdict, int] = {"pass": 0, "fail": 1, "inconclusive": 3}


def run(path: Path, out: Path, *, dry_run: bool, as_json: bool) -> None:
    """Run the recipe at `path` into `out`, print its headline, exit by its verdict."""
    recipe = load_recipe(path)
    text = path.read_text(encoding="utf-8")
    if dry_run:
        plan_only(Run(recipe, text, path.parent, out, silent), as_json)
        return
    with progress() as report:
        outcome = Run(recipe, text, path.parent, out, report)()
    finish(outcome, as_json)


def plan_only(run_: Run, as_json: bool) -> None:
    """Check everything, then print the target's predicted cost; nothing is written."""
    run_.context.check()
    spec = run_.recipe.prune_spec()
    total, budget = predict(run_.context.teacher, spec)
    facts = {
        "model": run_.recipe.model,
        "unit": spec.cost.unit,
        "teacher": total,
        "student_at_most": budget,
        "steps": spec.steps,
        "variants": [v.name for v in run_.recipe.variants()],
    }
    if as_json:
        console.print_json(json.dumps(facts))
        return
    console.print(
        f"{facts['model']}: {total:,} encoder {spec.cost.unit} → at most {budget:,} "
        f"({budget / total:.1%}) in {spec.steps} steps; variants {', '.join(facts['variants'])}"  # type: ignore[arg-type]
    )


def finish(outcome: Outcome, as_json: bool) -> None:
    """Print a finished run and exit by its verdict."""
    report = outcome.report
    if as_json:
        console.print_json(json.dumps(report))
    else:
        _print(report)
        console.print(f"report: {outcome.folder / 'report.html'}", soft_wrap=True)
    if STATUS[report["verdict"]]:
        raise typer.Exit(STATUS[report["verdict"]])


def _print(report: dict[str, Any]) -> None:
    reference, top = report["reference"], headline(report)
    rows = [
        ["encoder MACs kept", f"{top['macs']:.1%}", ""],
        ["encoder parameters kept", f"{top['encoder_parameters']:.1%}", ""],
    ]
    rows += [
        [f"{r['metric']} kept, {r['variant']}", f"{r['retention']:.1%}",
         f"{r['low']:.1%} to {r['high']:.1%}"]
        for r in report["accuracy"]
    ]  # fmt: skip
    rows += [
        [f"speed-up, {r['variant']}", f"{r['ratio']:.2f}×", f"{r['low']:.2f} to {r['high']:.2f}"]
        for r in report["speedups"]
        if (r["batch"], r["sequence"]) == (reference["batch"], reference["sequence"])
    ]
    rows += [
        [f"gate {g['name']} {g['threshold']:g}", g["verdict"], f"measured {g['value']:.4g}"]
        for g in report["gates"]
    ]
    title = f"student beside teacher, at {reference['batch']} × {reference['sequence']} tokens"
    table(title, ["", "value", "95 % interval"], rows)
