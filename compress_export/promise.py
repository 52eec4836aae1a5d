"""A promised latency, kept: search, export, measure, correct the table, search again.

A table predicts; a promise is about what is measured. So every student is exported as it will be
shipped and timed beside the unpruned model in one process, and where it misses, the table is
corrected by what was missed and pruning goes on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.profile import Effort, measure_graphs
from benchmarks.runtimes.onnxruntime import OrtModel
from compress.errors import BudgetError
from compress.model.batches import Batch
from compress.model.outputs import Runner
from compress.model.task_head import TaskHead, head_of, stack_outputs
from compress.plan.latency_table import LatencyTable
from compress.plan.workload import Mix
from compress.pruner.pruner import PrunedModel, Pruner
from compress_export.goal import Goal
from export.exporter import export_graphs
from export.graph.outputs import Feeds
from export.precision.variants import Variant

__all__ = ["Attempt", "Promise", "Stopwatch"]

ATTEMPTS = 5

_ROOM = 0.005
MARGIN = 0.02
"""Aimed below the target by this share, so that a measurement on another day agrees."""
NEAR = 0.01
"""Measured less than this share below the target, or above it: measured again, longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One student on the way to a goal.

    Attributes:
        variant: How it was exported.
        dense_ms: The unpruned float32 model, measured in the same rounds.
        predicted_ms: By the table as corrected so far, on the scale of `dense_ms`.
        measured_ms: Median.
        speedup: Measured, over the unpruned float32 model.
        error: Of the exported student on held-out calibration data, as `PrunedModel.error`.
        kept: Whether the goal is met.
    """

    variant: str
    dense_ms: float
    predicted_ms: float
    measured_ms: float
    speedup: float
    error: float
    kept: bool

    def to_dict(self) -> dict[str, Any]:
        """As the report writes it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopwatch:
    """Times graphs as they would ship, beside the unpruned model's.

    Attributes:
        dense: The unpruned model's graph, float32.
        provider: Where all of them run.
        mix: Under which workloads.
        vocab_size: Of the made-up token ids.
        effort: Of one measurement.
    """

    dense: Path
    provider: str
    mix: Mix
    vocab_size: int
    effort: Effort = field(default_factory=lambda: Effort(precision=0.008, seconds=8.0))

    def again(self) -> Stopwatch:
        """The same with three times the patience, for a measurement that matters more."""
        patient = replace(self.effort, seconds=3 * self.effort.seconds)
        return replace(self, effort=patient)

    def absolute(self) -> Stopwatch:
        """The same for milliseconds themselves, where what slows all graphs alike matters."""
        return replace(self, effort=replace(self.effort, absolute=True))

    def time(self, graphs: Sequence[Path]) -> list[float]:
        """Milliseconds over the mix: of the unpruned model, then of each graph."""
        totals = [0.0] * (len(graphs) + 1)
        for workload, share in self.mix.shares:
            measured = measure_graphs(
                [self.dense, *graphs], workload, self.provider, self.vocab_size, self.effort
            )
            found = measured.milliseconds.tolist()
            totals = [total + share * ms for total, ms in zip(totals, found, strict=True)]
        return totals


class Promise:
    """Goals of one variant, met one after the other by one pruner.

    Args:
        pruner: Of the unpruned model; its prices are set here.
        table: Of the variant.
        dense_ms: What the tables say of the unpruned float32 model under the mix.
        watch: Times students.
        variant: How students ship.
        names: Of the graphs' inputs.
        feeds: To calibrate static int8 on.
    """

    def __init__(
        self,
        pruner: Pruner,
        table: LatencyTable,
        dense_ms: float,
        watch: Stopwatch,
        variant: Variant,
        names: tuple[str, ...],
        feeds: Feeds = (),
    ) -> None:
        self.pruner, self.table, self.dense_ms, self.watch = pruner, table, dense_ms, watch
        self.variant, self.names, self.feeds = variant, names, feeds

    def floor_ms(self) -> float:
        """What the fastest student within reach takes, by the table, and room for its rounding."""
        self.pruner.prices = self.table.prices(self.watch.mix)
        return self.pruner.cheapest_cost() * (1 + _ROOM)

    def check(self, goal: Goal) -> None:
        """Refuse a goal that no plan can reach, by the table.

        Raises:
            BudgetError: Names the fastest that can be reached.
        """
        floor, budget = self.floor_ms(), goal.budget_ms(self.dense_ms)
        if floor > budget:
            units = ", ".join(self.pruner.spec.removable)
            raise BudgetError(
                f"target {goal} cannot be reached by removing {units}: the "
                f"fastest student would take {floor:.3g} ms ({self.dense_ms / floor:.2f}×) at "
                f"{self.watch.mix} tokens as {self.variant.name}; ask for less, or let more go "
                "(prune.units)"
            )

    def fastest(self) -> PrunedModel:
        """The cheapest student within reach, in one step."""
        return self.pruner.prune_to(self.floor_ms(), quick=True)

    def keep(self, goal: Goal) -> tuple[PrunedModel, list[Attempt]]:
        """Prune on until a student meets the goal as measured, or `ATTEMPTS` have failed.

        Where a corrected table says that the goal is out of reach, the last student stands.

        Raises:
            BudgetError: The table says so from the start.
        """
        attempts: list[Attempt] = []
        if goal.latency_ms is not None:
            self._set_clock()
        while True:
            try:
                self.check(goal)
            except BudgetError:
                if attempts:
                    return self.pruner.pruned(), attempts
                raise
            member = self.pruner.prune_to(self._aim(goal))
            attempts.append(self._attempt(member, goal))
            if attempts[-1].kept or len(attempts) == ATTEMPTS:
                return member, attempts
            self.table = self.table.corrected(attempts[-1].measured_ms / attempts[-1].predicted_ms)

    def _set_clock(self) -> None:
        """Bring the table to what the unpruned model takes now: shares hold, milliseconds drift."""
        self.watch = self.watch.absolute()
        (now,) = self.watch.time([])
        self.table = self.table.corrected(now / self.dense_ms)
        self.dense_ms = now

    def _aim(self, goal: Goal) -> float:
        return max(goal.budget_ms(self.dense_ms) / (1 + MARGIN), self.floor_ms())

    def _attempt(self, member: PrunedModel, goal: Goal) -> Attempt:
        with tempfile.TemporaryDirectory(prefix="compress-export-") as folder:
            graph = Path(folder) / "model.onnx"
            export_graphs(member.model, self.names, [self.variant], [graph], self.feeds)
            error = self.pruner.error_of(
                _runner(graph, self.variant.provider, head_of(member.model))
            )
            dense, student = self.watch.time([graph])
            if student > (1 - NEAR) * goal.budget_ms(dense):  # too near to be believed at once
                dense, student = self.watch.again().time([graph])
        now = dense if goal.latency_ms is None else self.dense_ms
        return Attempt(
            variant=self.variant.name,
            dense_ms=dense,
            predicted_ms=member.cost * now / self.dense_ms,
            measured_ms=student,
            speedup=dense / student,
            error=error,
            kept=student <= goal.budget_ms(dense),
        )


def _runner(graph: Path, provider: str, head: TaskHead) -> Runner:
    """What a graph gives for a batch of torch tensors."""
    model = OrtModel(graph, provider)

    def run(batch: Batch) -> Tensor:
        found = model.outputs({name: values.numpy() for name, values in batch.items()})
        return stack_outputs(head, [torch.from_numpy(v) for v in found], batch["attention_mask"])

    return run
