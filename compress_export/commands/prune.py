"""`prune`: a model to a share of its encoder, as a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compress.checkpoint import save
from compress.prune import prune
from compress_export.commands.run import print_prediction
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.context import Context
from compress_export.facts import model_facts
from compress_export.loading import check_checkpoint_target
from compress_export.recipe import make_recipe


def run(data: dict[str, Any], out: Path, *, dry_run: bool, as_json: bool) -> None:
    """Prune by the recipe `data` and write the checkpoint to `out`."""
    context = Context(make_recipe(data), Path())
    recipe, spec = context.recipe, context.recipe.prune_spec()
    check_checkpoint_target(out, context.model_source)
    context.check(["train"])
    if dry_run:
        print_prediction(recipe, context.teacher, as_json)
        return
    model, batches = context.teacher, context.calibration()
    with progress() as report:
        pruned = prune(model, batches, spec, report)
    save(pruned.model, pruned.plan, out, context.tokenizer)
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
    title = f"pruned; MACs for {recipe.target.sequence} tokens"
    table(title, ["", "teacher", "student", "kept"], rows)
    looked_at = sum(len(batch["input_ids"]) for batch in batches)
    console.print(f"calibrated on {looked_at} examples; checkpoint: {out}", soft_wrap=True)
