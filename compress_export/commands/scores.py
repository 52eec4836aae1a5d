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
from compress.pruner.prune import prune
from compress.pruner.spec import MethodName, PruneSpec
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

    def student(spec: PruneSpec, report: Progress) -> PreTrainedModel:
        share, cost = recipe.share(), recipe.cost()
        return prune(model, batches, share, spec, cost=cost, progress=report).model

    teacher = measured(model)
    rows: list[dict[str, Any]] = []
    with progress() as report:
        for name in get_args(MethodName):
            spec = replace(recipe.prune_spec(), score=name, trials=0)
            without, repaired = (
                measured(student(replace(spec, repair=repair), report)) for repair in (False, True)
            )
            rows.append({"score": name, "without_repair": without, "with_repair": repaired})
    _print(rows, teacher, f"{task.name} {task.metrics[0]}, {len(validation)} examples", as_json)


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
