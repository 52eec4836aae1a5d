"""`finetune`: an encoder, whole or with layers dropped first, on a task's labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.tasks import encode_labels
from compress.model.binding import bind
from compress.model.surgery import apply_
from compress.search.depth import drop_layers
from compress_export.console import progress
from compress_export.learning import Course, objective_of, train_spec
from compress_export.loading import (
    calibration_batches,
    check_checkpoint_target,
    check_length,
    label2id,
    load_for,
    load_tokenizer,
)
from compress_export.recipe import make_recipe
from compress_export.schooling import Pupil, print_trained, train_seeds


def run(
    data: dict[str, Any],
    out: Path,
    seeds: Sequence[int],
    n_drop: int,
    strategy: str,
    *,
    as_json: bool,
) -> None:
    """Fine-tune the model of the recipe `data` once a seed; write what comes of it to `out`."""
    recipe = make_recipe(data | {"prune": {"drop_layers": n_drop, "strategy": strategy}})
    check_checkpoint_target(out, recipe.model)
    task, cut = recipe.resolve_task(Path()), recipe.benchmark.max_length
    dataset, validation = (task.load(split, recipe.data) for split in ("train", "validation"))
    tokenizer = load_tokenizer(recipe.model)
    checked = load_for(recipe.model, dataset)
    check_length(checked, "benchmark.max_length", cut)
    for part in (dataset, validation):
        encode_labels(part, label2id(checked))

    def make(seed: int) -> Pupil:
        torch.manual_seed(seed)  # of a new head
        model, removed = load_for(recipe.model, dataset), None
        if n_drop:
            sample = dataset.sample(recipe.prune.calibration_examples, recipe.seed)
            batches = calibration_batches(sample, np.zeros(0), tokenizer, cut, recipe.seed)
            removed = drop_layers(bind(model), n_drop, recipe.prune.strategy, batches)
            apply_(model, removed)
        course = Course(
            metrics=task.metrics,
            dataset=dataset,
            tokenizer=tokenizer,
            max_length=cut,
            spec=train_spec(recipe.recover, seed),
            objective=objective_of(recipe.recover.objective, None),
        )
        return Pupil(model=model, course=course, tokenizer=tokenizer, removed=removed)

    with progress() as report:
        found = train_seeds(make, seeds, out, validation, None, report)
    print_trained("fine-tuned", found, {}, as_json=as_json)
