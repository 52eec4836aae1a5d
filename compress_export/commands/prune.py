"""`prune`: a model to a share of its encoder, as a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compress.errors import PromiseError
from compress_export.commands.run import print_prediction
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.context import Context
from compress_export.facts import model_facts
from compress_export.loading import check_checkpoint_target
from compress_export.reach import Reached, reach
from compress_export.recipe import Recipe, make_recipe


def run(data: dict[str, Any], out: Path, *, dry_run: bool, as_json: bool) -> None:
    """Prune by the recipe `data` and write the checkpoint to `out`."""
    context = Context(make_recipe(data), Path())
    recipe = context.recipe
    check_checkpoint_target(out, context.model_source)
    context.check(["train"])
    if dry_run:
        print_prediction(context, as_json)
        return
    with progress() as report:
        reached = reach(context, report)
    context.save(reached.model, reached.plan, out)
    teacher, student = (
        model_facts(m, recipe.promised().sequence) for m in (context.teacher, reached.model)
    )
    if as_json:
        facts = {"teacher": teacher, "student": student, "checkpoint": str(out)}
        facts["reached"] = reached.facts()
        console.print_json(json.dumps(facts))
        _check_kept(reached, recipe)
        return
    rows = [
        [name, f"{teacher[key]:,}", f"{student[key]:,}", f"{student[key] / teacher[key]:.1%}"]
        for name, key in (
            ("encoder MACs", "encoder_macs"),
            ("encoder parameters", "encoder_parameters"),
            ("all parameters", "parameters"),
        )
    ]
    title = f"pruned; MACs for {recipe.promised().sequence} tokens"
    table(title, ["", "teacher", "student", "kept"], rows)
    for attempt in reached.attempts:
        console.print(
            f"{attempt.variant}: predicted {attempt.predicted_ms:.2f} ms, measured "
            f"{attempt.measured_ms:.2f} ms beside {attempt.dense_ms:.2f} unpruned, "
            f"{attempt.speedup:.2f}×",
            soft_wrap=True,
        )
    console.print(f"checkpoint: {out}", soft_wrap=True)
    _check_kept(reached, recipe)


def _check_kept(reached: Reached, recipe: Recipe) -> None:
    """Fail by exit status where the promise was not kept; the checkpoint stands."""
    if reached.missed:
        raise PromiseError(
            f"target {recipe.goal()} was missed after {len(reached.own_attempts)} attempts, the "
            f"last student measured {reached.missed.speedup:.2f}×; ask for less, or let more go "
            "(prune.units)"
        )
