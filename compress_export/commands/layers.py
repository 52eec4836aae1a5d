"""`layers`: what dropping layers costs each task, the table of Sajjad et al. 2020 for any model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks.tasks import GlueTask, glue_task
from compress.batches import Progress
from compress.binding import bind
from compress.checkpoint import load
from compress.depth import DEPTH_STRATEGIES, DepthStrategy, drop_layers
from compress.distill.objective import Objective
from compress.distill.teaching import Online
from compress.errors import RecipeError
from compress.plan import Plan
from compress.surgery import apply_
from compress.training import TrainSpec
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.learning import Course, train_spec
from compress_export.loading import calibration_batches, check_alone, load_for, load_tokenizer
from compress_export.recipe import make_recipe
from compress_export.schooling import Pupil, train_seeds

_LABELS = Objective(labels=1.0, logits=0.0, hidden=0.0)
_SAMPLE = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Which cells of the table.

    Attributes:
        tasks: Names of GLUE tasks.
        drops: How many layers to drop.
        strategies: Which ones.
        spec: Of every training.
        max_length: Tokens at which texts are cut.
        seeds: One training each.
        after: Drop from the fine-tuned model, and fine-tune again; else from the given one.
        distil: Train each dropped model on the whole one's logits and hidden states, too.
    """

    tasks: tuple[str, ...]
    drops: tuple[int, ...]
    strategies: tuple[DepthStrategy, ...]
    spec: TrainSpec
    max_length: int
    seeds: tuple[int, ...]
    after: bool = False
    distil: bool = False

    def rows(self) -> Iterator[Row]:
        """The whole model, then each way to drop layers."""
        yield Row(n_drop=0, strategy="top", how="fine-tuned")
        for n_drop in self.drops:
            for strategy in self.strategies:
                yield Row(n_drop=n_drop, strategy=strategy, how="fine-tuned")
                if self.distil:
                    yield Row(n_drop=n_drop, strategy=strategy, how="distilled")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of the table."""

    n_drop: int
    strategy: DepthStrategy
    how: str

    @property
    def name(self) -> str:
        """Of the row, and of its folders."""
        return f"{self.strategy}-{self.n_drop}-{self.how}" if self.n_drop else "whole"


def grid_of(
    tasks: list[str],
    drops: list[int],
    strategies: list[str],
    training: dict[str, Any],
    max_length: int,
    seeds: list[int],
) -> Grid:
    """The grid that options ask for.

    Raises:
        RecipeError: A task or strategy is unknown, or training cannot go so.
    """
    for name in strategies:
        if name not in DEPTH_STRATEGIES:
            raise RecipeError(
                f"--strategy must be among {', '.join(DEPTH_STRATEGIES)}, found {name!r}; correct "
                "it"
            )
    recipes = [make_recipe({"model": "-", "task": name, "recover": training}) for name in tasks]
    return Grid(
        tasks=tuple(tasks),
        drops=tuple(drops),
        strategies=tuple(strategies),  # type: ignore[arg-type]
        spec=train_spec(recipes[0].recover, 0),
        max_length=max_length,
        seeds=tuple(seeds),
    )


def run(model: str, grid: Grid, data: Path | None, out: Path, *, as_json: bool) -> None:
    """Fill the table and print it; what an earlier call has trained into `out` is not repeated."""
    check_alone("layers")
    n_layers = bind(load_for(model, _task(grid.tasks[0]).load("train", data))).shape.depth
    for n_drop in grid.drops:
        if not 0 < n_drop < n_layers:
            raise RecipeError(
                f"--drop must be 1 to {n_layers - 1}, found {n_drop}; the model has {n_layers} "
                "layers"
            )
    found: dict[str, dict[str, list[float]]] = {row.name: {} for row in grid.rows()}
    with progress() as report:
        for name in grid.tasks:
            school = _School(model, _task(name), grid, data, out / name, report)
            for row in grid.rows():
                found[row.name][name] = school.metric_of(row)
    _print(found, grid, as_json)


class _School:
    """All trainings of one task."""

    def __init__(
        self,
        model: str,
        task: GlueTask,
        grid: Grid,
        data: Path | None,
        out: Path,
        progress: Progress,
    ) -> None:
        self.model, self.task, self.grid, self.out, self.progress = model, task, grid, out, progress
        self.train, self.validation = (task.load(s, data) for s in ("train", "validation"))
        self.tokenizer = load_tokenizer(model)

    def metric_of(self, row: Row) -> list[float]:
        """The task's first metric of each seed."""
        found = []
        for seed in self.grid.seeds:
            whole = self.out / "whole" / f"seed-{seed}"
            teaching = Online(load(whole)) if row.how == "distilled" else None
            (trained,) = train_seeds(
                partial(self._pupil, row, whole),
                [seed],
                self.out / row.name / f"seed-{seed}",
                self.validation,
                teaching,
                self.progress,
            )
            found.append(trained.metrics[self.task.metrics[0]])
        return found

    def _pupil(self, row: Row, whole: Path, seed: int) -> Pupil:
        torch.manual_seed(seed)  # of a new head
        student, removed = self._untrained(row, whole)
        objective = Objective(layers="source") if row.how == "distilled" else _LABELS
        return Pupil(
            model=student,
            course=self._course(replace(self.grid.spec, seed=seed), objective),
            tokenizer=self.tokenizer,
            origin=removed,
            removed=removed,
        )

    def _untrained(self, row: Row, whole: Path) -> tuple[PreTrainedModel, Plan | None]:
        fine_tuned = row.n_drop and (self.grid.after or row.how == "distilled")
        model = load(whole) if fine_tuned else load_for(self.model, self.train)
        if not row.n_drop:
            return model, None
        cut = self.grid.max_length
        sample = self.train.sample(_SAMPLE, 0)
        batches = calibration_batches(sample, np.zeros(0), self.tokenizer, cut)
        plan = drop_layers(bind(model), row.n_drop, row.strategy, batches)
        apply_(model, plan)
        return model, plan

    def _course(self, spec: TrainSpec, objective: Objective) -> Course:
        return Course(
            metrics=self.task.metrics,
            dataset=self.train,
            tokenizer=self.tokenizer,
            max_length=self.grid.max_length,
            spec=spec,
            objective=objective,
        )


def _task(name: str) -> GlueTask:
    task = glue_task(name)
    if task is None:
        raise RecipeError(f"--task must be a GLUE task, found {name!r}; for example sst2")
    return task


def _print(found: dict[str, dict[str, list[float]]], grid: Grid, as_json: bool) -> None:
    if as_json:
        console.print_json(json.dumps(found))
        return
    rows = []
    for name, by_task in found.items():
        means = [float(np.mean(by_task[task])) for task in grid.tasks]
        cells = [_cell(by_task[task]) for task in grid.tasks]
        rows.append([name, *cells, f"{np.mean(means):.4f}"])
    heads = [f"{task} {_task(task).metrics[0]}" for task in grid.tasks]
    table("layers dropped; validation split", ["", *heads, "mean"], rows)


def _cell(values: list[float]) -> str:
    mean = f"{np.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.4f}"
