"""`run`: all of it, from a recipe to a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
from transformers import PreTrainedModel

from benchmarks.gate import Verdict
from benchmarks.report.write import headline
from compress.batches import silent
from compress.prune import predict
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.pipeline import Outcome, Run
from compress_export.recipe import Recipe, load_recipe

STATUS: dict[Verdict, int] = {"pass": 0, "fail": 1, "inconclusive": 3}


def run(path: Path, out: Path, *, dry_run: bool, as_json: bool) -> None:
    """Run the recipe at `path` into `out`, print its headline, exit by its verdict."""
    recipe = load_recipe(path)
    text = path.read_text(encoding="utf-8")
    if dry_run:
        planned = Run(recipe, text, path.parent, out, silent)
        planned.context.check()
        print_prediction(recipe, planned.context.teacher, as_json)
        return
    with progress() as report:
        outcome = Run(recipe, text, path.parent, out, report)()
    finish(outcome, as_json)


def print_prediction(recipe: Recipe, teacher: PreTrainedModel, as_json: bool) -> None:
    """Print what the student may cost at most, step by step; nothing is written."""
    spec = recipe.prune_spec()
    total, budgets = predict(teacher, spec)
    facts = {
        "model": recipe.model,
        "unit": spec.cost.unit,
        "teacher": total,
        "student_at_most": budgets[-1],
        "steps": budgets,
        "dropped_layers": spec.drop,
        "variants": [v.name for v in recipe.variants()],
    }
    if as_json:
        console.print_json(json.dumps(facts))
        return
    rows = [[f"step {i}", f"{b:,}", f"{b / total:.1%}"] for i, b in enumerate(budgets, start=1)]
    table(
        f"{recipe.model}: {total:,} encoder {spec.cost.unit} now",
        ["", f"at most, {spec.cost.unit}", "share"],
        rows,
    )
    if spec.drop:
        console.print(f"layers dropped first: {spec.drop}, by {spec.strategy}")


def finish(outcome: Outcome, as_json: bool) -> None:
    """Print a finished run and exit by its verdict."""
    report = outcome.report
    if as_json:
        console.print_json(json.dumps(report))
    else:
        _print(report)
        if report["gates"]:
            console.print(f"verdict on {report['reference']['variant']}: {report['verdict']}")
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
