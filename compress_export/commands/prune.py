"""`prune`: a model to a share of its encoder, as a checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from compress.checkpoint.checkpoint import load, load_config
from compress.errors import PromiseError, RecipeError
from compress.model.batches import Progress
from compress.pruner.pruner import Pruner
from compress_export.commands.run import print_prediction
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.context import Context
from compress_export.facts import model_facts
from compress_export.forecast import forecast
from compress_export.loading import check_checkpoint_target, local_folder
from compress_export.reach import Reached, reach
from compress_export.recipe import Recipe, make_recipe


def run(data: dict[str, Any], out: Path, *, streamed: bool, dry_run: bool, as_json: bool) -> None:
    """Prune by the recipe `data` and write the checkpoint to `out`.

    Args:
        data: A recipe.
        out: Of the student.
        streamed: Keep one layer in memory at a time.
        dry_run: Print what is predicted, and write nothing.
        as_json: Print JSON.
    """
    context = Context(make_recipe(data), Path(), reader=_mapped if streamed else load)
    recipe = context.recipe
    if streamed:
        _check_streamed(recipe)
    check_checkpoint_target(out, context.model_source)
    context.check(["train"])
    if dry_run:
        print_prediction(context, forecast(context, ["prune"], streamed=streamed), as_json)
        return
    if streamed:
        with progress() as report:
            _stream(context, out, report)
        _print(context, _mapped(str(out)), out, as_json, None)
        return
    with progress() as report:
        reached = reach(context, report)
    context.save(reached.model, reached.plan, out)
    _print(context, reached.model, out, as_json, reached)
    _check_kept(reached, recipe)


def _check_streamed(recipe: Recipe) -> None:
    if recipe.goal() is not None:
        raise RecipeError(
            "--streamed goes down to a share of --macs or --parameters, found the target "
            f"{recipe.goal()}; change it"
        )


def _mapped(source: str) -> PreTrainedModel:
    from compress.streamed import load_mapped

    load_config(source)  # which says what is wrong with it
    return load_mapped(local_folder(source))


def _stream(context: Context, out: Path, report: Progress) -> None:
    from compress.streamed import InFiles

    batches = context.calibration()
    recipe, scratch = context.recipe, out.resolve().parent
    scratch.mkdir(parents=True, exist_ok=True)
    spec = replace(recipe.prune_spec(context.pooling), trials=0)
    source = InFiles(
        local_folder(context.model_source),
        out,
        tokenizer=context.tokenizer,
        pooling=context.pooling,
        scratch=scratch,
    )
    with source as files:
        Pruner(files, batches, context.counted(), spec, report).prune_to(context.budget())


def _print(
    context: Context, model: PreTrainedModel, out: Path, as_json: bool, reached: Reached | None
) -> None:
    sequence = context.recipe.promised().sequence
    teacher, student = (model_facts(m, sequence) for m in (context.teacher, model))
    if as_json:
        facts = {"teacher": teacher, "student": student, "checkpoint": str(out)}
        if reached is not None:
            facts["reached"] = reached.facts()
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
    table(f"pruned; MACs for {sequence} tokens", ["", "teacher", "student", "kept"], rows)
    for attempt in reached.attempts if reached is not None else ():
        console.print(
            f"{attempt.variant}: predicted {attempt.predicted_ms:.2f} ms, measured "
            f"{attempt.measured_ms:.2f} ms beside {attempt.dense_ms:.2f} unpruned, "
            f"{attempt.speedup:.2f}×",
            soft_wrap=True,
        )
    console.print(f"checkpoint: {out}", soft_wrap=True)


def _check_kept(reached: Reached, recipe: Recipe) -> None:
    """Fail by exit status where the promise was not kept; the checkpoint stands."""
    if reached.missed:
        raise PromiseError(
            f"target {recipe.goal()} was missed after {len(reached.own_attempts)} attempts, the "
            f"last student measured {reached.missed.speedup:.2f}×; ask for less, or let more go "
            "(prune.units)"
        )
