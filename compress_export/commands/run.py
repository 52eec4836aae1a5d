"""`run`: all of it, from a recipe to a report."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import typer

from benchmarks.report.write import headline
from compress.model.batches import silent
from compress.model.binding import bind
from compress.pruner.schedule import after_drop, step_costs
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.context import Context
from compress_export.exits import STATUS
from compress_export.forecast import Forecast, forecast
from compress_export.loading import check_alone
from compress_export.pipeline import Outcome, Run
from compress_export.recipe import load_recipe


def run(path: Path, out: Path, *, dry_run: bool, as_json: bool) -> None:
    """Run the recipe at `path` into `out`, print its headline, exit by its verdict."""
    check_alone("run")
    recipe = load_recipe(path)
    text = path.read_text(encoding="utf-8")
    if dry_run:
        planned = Run(recipe, text, path.parent, out, silent)
        planned.check()
        print_prediction(planned.context, forecast(planned.context), as_json)
        return
    with progress() as report:
        outcome = Run(recipe, text, path.parent, out, report)()
    finish(outcome, as_json)


def print_prediction(context: Context, expected: Forecast, as_json: bool) -> None:
    """Print what the student may cost at most, and what making it will; nothing is written."""
    recipe = context.recipe
    facts: dict[str, Any] = {
        "model": recipe.model,
        "method": recipe.prune.method,
        "variants": [v.name for v in recipe.variants()],
        "forecast": expected.to_dict(),
    }
    goal = recipe.goal()
    if goal is not None:
        facts |= {"unit": "ms", "target": str(goal), "workloads": str(context.mix)}
        rows = [[name, str(facts[name])] for name in ("target", "workloads")]
        rows.append(["precisions", ", ".join(v.name for v in recipe.candidates())])
        title, header = f"{recipe.model}: a latency table decides what goes", ["", ""]
    else:
        total, budgets = _budgets(context)
        unit = recipe.cost().unit
        facts |= {
            "unit": unit,
            "teacher": total,
            "student_at_most": budgets[-1],
            "steps": budgets,
            "dropped_layers": recipe.prune.drop_layers,
        }
        rows = [[f"step {i}", f"{b:,}", f"{b / total:.1%}"] for i, b in enumerate(budgets, start=1)]
        title = f"{recipe.model}: {total:,} encoder {unit} now"
        header = ["", f"at most, {unit}", "share"]
    if as_json:
        console.print_json(json.dumps(facts))
        return
    table(title, header, rows)
    if recipe.prune.drop_layers:
        dropped = f"{recipe.prune.drop_layers}, by {recipe.prune.strategy}"
        console.print(f"layers dropped first: {dropped}")
    parts = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in expected.seconds.items())
    console.print(f"forecast: {expected} ({parts})", soft_wrap=True)


def _budgets(context: Context) -> tuple[int, list[int]]:
    """What the teacher costs, and the student at most after each step."""
    prices, spec, layout = context.counted(), context.recipe.prune_spec(), bind(context.teacher)
    now = prices.total(after_drop(layout, spec))
    steps = step_costs(now, context.budget(), spec) or (now,)
    return round(prices.total(layout.shape)), [math.floor(cost) for cost in steps]


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
