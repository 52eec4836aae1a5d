"""`prune`: a model to a share of its encoder, as a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compress.checkpoint import save
from compress.folder import check_target
from compress.prune import predict, prune
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.context import Context
from compress_export.facts import model_facts
from compress_export.recipe import make_recipe
from compress_export.verify import verify_reload


def run(data: dict[str, Any], out: Path, *, dry_run: bool, as_json: bool) -> None:
    """Prune by the recipe `data` and write the checkpoint to `out`."""
    context = Context(make_recipe(data), Path())
    recipe, spec = context.recipe, context.recipe.prune_spec()
    check_target(out)
    context.check(["train"])
    total, budget = predict(context.teacher, spec)
    if dry_run:
        console.print(
            f"{recipe.model}: {total:,} encoder {spec.cost.unit} → at most {budget:,} "
            f"({budget / total:.1%}), scored by {recipe.prune.score} in {spec.steps} steps"
        )
        return
    model, batches = context.teacher, context.calibration()
    with progress() as report:
        pruned = prune(model, batches, spec, report)
    save(pruned.model, pruned.plan, out, context.tokenizer)
    verify_reload(out, pruned.model, batches[0])
    teacher, student = (model_facts(m, recipe.target.sequence) for m in (model, pruned.model))
    if as_json:
        facts = {"teacher": teacher, "student": student, "checkpoint": str(out)}
        console.print_json(json.dumps(facts))
        return
    rows = [
        [name, f"{teacher[key]:,}", f"{student[key]:,}", f"{student[key] / teacher[key]:.1%}"]
        for name, key in (
            ("encoder MACs", "encoder_macs"),
            ("encoder parameters", "encoder_parameters"),
            ("all parameters", "parameters"),
        )
    ]
    table("pruned", ["", "teacher", "student", "kept"], rows)
    console.print(f"checkpoint: {out}", soft_wrap=True)
