"""`scores`: every score at one budget, with and without repair, against random."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from benchmarks.accuracy import Runner, predict
from benchmarks.tasks import METRICS, predictions
from compress.model.batches import Progress, forward
from compress.model.binding import bind
from compress.pruner.prune import prune
from compress.pruner.walk import FamilySpec, Walk
from compress.saliency.pruning_order import RankingName
from compress.saliency.scorers import SCORE_NAMES
from compress_export.console import out, progress, table
from compress_export.context import Context
from compress_export.recipe import make_recipe


def run(data: dict[str, Any], *, as_json: bool) -> None:
    """Prune by every score and print what each keeps of the task's first metric."""
    context = Context(make_recipe(data), Path())
    context.check()
    recipe, task, model = context.recipe, context.task, context.teacher
    validation = context.dataset("validation")
    labels, batches = context.labels(validation), context.calibration()
    metric = METRICS[task.metrics[0]]

    def measured(student: PreTrainedModel) -> float:
        logits = predict(
            _torch_runner(student),
            context.tokenizer,
            validation,
            max_length=recipe.benchmark.max_length,
        )
        return metric(labels, predictions(logits))

    teacher = measured(model)
    rows: list[dict[str, Any]] = []
    with progress() as report:
        for name in SCORE_NAMES:
            spec = replace(recipe.prune_spec(), score=name)
            values = [
                measured(prune(model, batches, replace(spec, repair=repair), report).model)
                for repair in (False, True)
            ]
            rows.append({"score": name, "without_repair": values[0], "with_repair": values[1]})
        for ranking in get_args(RankingName):
            walked = replace(recipe.family_spec(), ranking=ranking, trials=0)
            values = [
                measured(_walk(context, replace(walked, repair=repair), report))
                for repair in (False, True)
            ]
            rows.append({"score": ranking, "without_repair": values[0], "with_repair": values[1]})
    _print(rows, teacher, f"{task.name} {task.metrics[0]}, {len(validation)} examples", as_json)


def _walk(context: Context, spec: FamilySpec, report: Progress) -> PreTrainedModel:
    """The student of a walk at the same budget, of the same units, without a search."""
    recipe = context.recipe
    prices = recipe.cost().prices(bind(context.teacher).shape)
    walk = Walk(context.teacher, context.calibration(), prices, spec, report)
    return walk.down_to(recipe.share() * walk.dense_cost).model


def _torch_runner(model: PreTrainedModel) -> Runner:
    def run_batch(inputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
        tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
        with torch.inference_mode():
            logits: NDArray[Any] = forward(model, tensors).numpy()
        return logits

    return run_batch


def _print(rows: list[dict[str, Any]], teacher: float, title: str, as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps({"teacher": teacher, "scores": rows}))
        return
    cells = [
        [row["score"]]
        + [
            f"{row[key]:.4f} ({row[key] / teacher:.1%})"
            for key in ("without_repair", "with_repair")
        ]
        for row in rows
    ]
    header = ["score", "without repair", "with repair"]
    table(f"{title}; teacher {teacher:.4f}", header, cells)
