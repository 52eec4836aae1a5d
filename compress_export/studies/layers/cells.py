"""The parts of the grid: trainings of what is left, signals about layers, and time by depth."""

from __future__ import annotations

import copy
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.profile import Effort, measure_graphs
from compress.checkpoint.checkpoint import load
from compress.distillation.objective import Objective
from compress.distillation.teacher_outputs import LiveTeacher
from compress.model.batches import Batches, first_within, forward, frozen, token_mask
from compress.model.binding import bind
from compress.model.hooks import Hook, hooked
from compress.model.layout import Layout
from compress.model.surgery import apply_
from compress.plan.cost import CostModel
from compress.plan.plan import Plan
from compress.plan.workload import Workload
from compress.search.depth import DepthStrategy, contribution, drop_layers, left_out_divergence
from compress_export.loading import calibration_batches, load_for, load_tokenizer
from compress_export.studies.grid import Cell, Row
from compress_export.studies.schools import LABELS, Lessons, TaskData
from export.exporter import export_graphs
from export.graph.inputs import input_names
from export.precision.variants import variant

__all__ = ["Depths", "Dropped", "Moment", "Signals"]

Moment = Literal["before", "after", "distilled"]
"""Layers go before the one fine-tuning; after it, and it is fine-tuned again; or after it, and it
learns from the whole model."""

_SAMPLE = 256
_ALIKE = 8192
"""Tokens whose states are compared between layers: all of them stand in memory at once."""


@dataclass(frozen=True, kw_only=True)
class Dropped(Cell):
    """One way to drop layers, trained.

    Attributes:
        source: Checkpoint that was not fine-tuned.
        whole: The one that was, whole.
        lessons: The task.
        strategy: Which layers.
        n_drop: How many.
        moment: When.
        seed: Of the training.
        out: Folder of the checkpoint.
    """

    source: str
    whole: str
    lessons: Lessons
    strategy: DepthStrategy
    n_drop: int
    moment: Moment
    seed: int
    out: str

    @property
    def name(self) -> str:
        """Of the cell."""
        return f"{self.lessons.task}-{self.moment}-{self.strategy}-{self.n_drop}-{self.seed}"

    def reads(self) -> tuple[str, ...]:
        """The checkpoint that layers are dropped from."""
        sources = (self.source,) if self.moment == "before" else (self.source, self.whole)
        return (*sources, *self.lessons.files())

    def work(self) -> list[Row]:
        """One row."""
        data = TaskData(self.lessons)
        kept: list[int] = []

        def prune(model: PreTrainedModel) -> Plan:
            plan = self._plan(data, model)
            kept.extend(layer.source for layer in plan.layers)
            apply_(model, plan)
            return plan

        def base() -> PreTrainedModel:
            return load_for(self.source if self.moment == "before" else self.whole, data.train)

        learns = self.moment == "distilled"
        value = data.fine_tuned(
            self.source,
            self.seed,
            Path(self.out),
            prune=prune,
            base=base,
            objective=Objective(layers="source") if learns else LABELS,
            teaching=LiveTeacher(load(self.whole)) if learns else None,
        )
        facts = {"task": self.lessons.task, "strategy": self.strategy, "n_drop": self.n_drop}
        return [facts | {"moment": self.moment, "seed": self.seed, "metric": value, "kept": kept}]

    def _plan(self, data: TaskData, model: PreTrainedModel) -> Plan:
        batches = _unlabelled(data, self.source)
        return drop_layers(bind(model), self.n_drop, self.strategy, batches)


@dataclass(frozen=True, kw_only=True)
class Signals(Cell):
    """What can be said of each layer without a training.

    Attributes:
        whole: Fine-tuned checkpoint.
        lessons: Its task.
    """

    whole: str
    lessons: Lessons

    @property
    def name(self) -> str:
        """Of the cell."""
        return f"signals-{self.lessons.task}"

    def reads(self) -> tuple[str, ...]:
        """The checkpoint."""
        return (self.whole, *self.lessons.files())

    def work(self) -> list[Row]:
        """A row a layer: its cosine, its absence, and its likeness to every other."""
        data, model = TaskData(self.lessons), load(self.whole)
        layout, batches = bind(model), _unlabelled(data, self.whole)
        cosines, loss_increases = (
            contribution(layout, batches),
            left_out_divergence(layout, batches),
        )
        alike = likeness(layout, first_within(batches, _ALIKE))
        return [
            {
                "task": self.lessons.task,
                "layer": i,
                "cosine": float(cosines[i]),
                "left_out": float(loss_increases[i]) if np.isfinite(loss_increases[i]) else None,
                "like": alike[i].tolist(),
            }
            for i in range(len(cosines))
        ]


@dataclass(frozen=True, kw_only=True)
class Depths(Cell):
    """Parameters, MACs and measured time of the encoder at each depth, all timed together.

    Attributes:
        source: Checkpoint.
        lessons: A task, for a head.
        drops: Numbers of layers to drop.
        batch, sequence: The workload.
    """

    source: str
    lessons: Lessons
    drops: tuple[int, ...]
    sequence: int
    batch: int = 8

    @property
    def name(self) -> str:
        """Of the cell."""
        return "depths"

    def reads(self) -> tuple[str, ...]:
        """The checkpoint."""
        return (self.source, *self.lessons.files())

    def work(self) -> list[Row]:
        """A row a depth."""
        data = TaskData(self.lessons)
        whole = load_for(self.source, data.train)
        names = input_names(whole, load_tokenizer(self.source).model_input_names)
        plain = variant("cpu-fp32")
        with tempfile.TemporaryDirectory() as folder:
            graphs = []
            for n_drop in self.drops:
                graphs.append(Path(folder) / str(n_drop) / "model.onnx")
                export_graphs(_shorter(whole, n_drop), names, [plain], graphs[-1:])
            effort = Effort(precision=0.01, seconds=15.0)
            workload = Workload(batch=self.batch, sequence=self.sequence)
            vocabulary = int(whole.config.vocab_size)
            found = measure_graphs(graphs, workload, plain.provider, vocabulary, effort)
        rows = [self._row(whole, n_drop) for n_drop in self.drops]
        times = found.milliseconds.tolist()
        return [
            row | {"ms": ms, "time": ms / times[0]} for row, ms in zip(rows, times, strict=True)
        ]

    def _row(self, whole: PreTrainedModel, n_drop: int) -> Row:
        shapes = [bind(whole).shape, bind(_shorter(whole, n_drop)).shape]
        macs, parameters = (
            [CostModel(unit=unit, sequence=self.sequence).total(shape) for shape in shapes]
            for unit in ("macs", "parameters")
        )
        every = [sum(p.numel() for p in m.parameters()) for m in (whole, _shorter(whole, n_drop))]
        return {
            "n_drop": n_drop,
            "workload": f"{self.batch} × {self.sequence}",
            "macs": macs[1] / macs[0],
            "encoder_parameters": parameters[1] / parameters[0],
            "parameters": every[1] / every[0],
        }


def likeness(layout: Layout, batches: Batches) -> Tensor:
    """Linear CKA between the outputs of layers over real tokens: `(n_layers, n_layers)`.

    Kornblith et al. 2019 (arXiv 1905.00414): 1 where one is the other rotated and scaled.
    """
    outputs: list[list[Tensor]] = [[] for _ in layout.layers]
    with frozen(layout.model), torch.no_grad():
        for batch in batches:
            mask = token_mask(batch, layout.model.device)
            found: dict[int, Tensor] = {}
            with ExitStack() as stack:
                for layer in layout.layers:
                    stack.enter_context(hooked(layer, "output", _kept_by(found, layer.index)))
                forward(layout.model, batch)
            for index, hidden in found.items():
                outputs[index].append(hidden[mask])
    states = [torch.cat(parts).double() for parts in outputs]
    states = [state - state.mean(0) for state in states]
    own = [float((state.T @ state).norm()) for state in states]
    pairs = [[float((a.T @ b).norm()) ** 2 for b in states] for a in states]
    return torch.tensor(
        [[pairs[i][j] / (own[i] * own[j]) for j in range(len(own))] for i in range(len(own))]
    )


def _kept_by(found: dict[int, Tensor], index: int) -> Hook:
    """A tap that keeps the last that passes."""

    def hook_fn(hidden: Tensor) -> None:
        found[index] = hidden.detach()

    return hook_fn


def _shorter(whole: PreTrainedModel, n_drop: int) -> PreTrainedModel:
    """A copy without its top layers."""
    model = copy.deepcopy(whole)
    apply_(model, drop_layers(bind(model), n_drop))
    return model


def _unlabelled(data: TaskData, source: str) -> Batches:
    sample = data.train.sample(_SAMPLE, 0)
    tokenizer, cut = load_tokenizer(source), data.lessons.max_length
    return calibration_batches(sample, np.zeros(0), tokenizer, cut)
