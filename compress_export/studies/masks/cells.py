"""One method at one budget: a plan, and what the model keeps behind it."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from benchmarks.tasks import METRICS, encode_labels, predictions
from compress.checkpoint.checkpoint import load
from compress.learned import (
    AdaptGate,
    AdaptSpec,
    Descent,
    HardConcreteGate,
    HardConcreteSpec,
    MaskSpec,
    MovementGate,
    MovementSpec,
    SubsetGate,
    SubsetSpec,
    UnitGate,
    learn_masks,
)
from compress.model.batches import Batches, first_within, label_loss
from compress.model.binding import bind
from compress.model.layout import Layout
from compress.model.surgery import apply_
from compress.plan.cost import CostModel, Prices
from compress.plan.plan import EncoderShape, Plan, Unit
from compress.pruner.pruner import Pruner
from compress.pruner.spec import PruneSpec
from compress.repair.least_squares import repair_
from compress_export.loading import label2id
from compress_export.studies.grid import Cell, Row
from compress_export.studies.schools import Lessons, TaskData

__all__ = ["HEAD_METHODS", "LEARNT", "MAC_METHODS", "Effort", "Kept", "Method", "Whole"]

Method = Literal["obs", "michel", "random", "subset", "hard-concrete", "movement", "adapt"]
HEAD_METHODS: tuple[Method, ...] = ("obs", "subset", "hard-concrete", "michel", "random")
"""At equal heads: the ones that are, or can be, about heads alone."""
MAC_METHODS: tuple[Method, ...] = ("obs", "hard-concrete", "movement", "adapt", "random")
"""At equal multiply-accumulates."""
LEARNT: tuple[str, ...] = tuple(m for m in get_args(Method) if m not in ("obs", "michel", "random"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How much each method may look at.

    Attributes:
        steps: Updates of a learnt mask.
        train: Examples that it learns from.
        calibration: Examples that scores and repair look at, at most.
        tokens: Of those, at most; texts of tasks differ by far in length.
        sequence: Tokens at which MACs are counted.
    """

    steps: int
    train: int
    calibration: int
    tokens: int
    sequence: int = 64


@dataclass(frozen=True, kw_only=True)
class Whole(Cell):
    """The unpruned model's answers.

    Attributes:
        source: Fine-tuned checkpoint.
        lessons: Its task.
    """

    source: str
    lessons: Lessons

    @property
    def name(self) -> str:
        """Of the cell."""
        return f"whole-{self.lessons.task}"

    def reads(self) -> tuple[str, ...]:
        """The checkpoint."""
        return (self.source, *self.lessons.files())

    def work(self) -> list[Row]:
        """One row, with labels and predictions."""
        data, model = TaskData(self.lessons), load(self.source)
        labels = encode_labels(data.validation, label2id(model))
        found = _answers(data, model, self.source)
        facts = {"task": self.lessons.task, "metric_name": data.metric}
        return [facts | {"labels": labels.tolist()} | found]


@dataclass(frozen=True, kw_only=True)
class Kept(Cell):
    """One method, one budget, one seed.

    Attributes:
        source: Fine-tuned checkpoint.
        lessons: Its task.
        method: How units are chosen.
        units: What may go: heads alone, or neurons too.
        share: Of the heads that stay, or of the encoder's MACs.
        effort: What a method may look at.
        seed: Of it all.
    """

    source: str
    lessons: Lessons
    method: Method
    units: tuple[Unit, ...]
    share: float
    effort: Effort
    seed: int

    @property
    def budget(self) -> str:
        """What is equal: heads or MACs."""
        return "heads" if self.units == ("heads",) else "MACs"

    @property
    def name(self) -> str:
        """Of the cell."""
        task = self.lessons.task
        return f"{task}-{self.budget}-{self.share:g}-{self.method}-{self.seed}"

    def reads(self) -> tuple[str, ...]:
        """The checkpoint."""
        return (self.source, *self.lessons.files())

    def work(self) -> list[Row]:
        """One row: without repair, and with it."""
        data, model = TaskData(self.lessons), load(self.source)
        layout = bind(model)
        examples = data.batches(model, self.source, self.effort.calibration, self.seed + 1)
        calibration = first_within(examples, self.effort.tokens)
        start = time.perf_counter()
        plan, refitted, open_ = self._planned(data, layout, calibration)
        seconds = time.perf_counter() - start
        cut = copy.deepcopy(model)
        apply_(cut, plan)
        bare = _answers(data, cut, self.source)
        if refitted is None:
            repair_(bind(cut), layout, plan, calibration)
            refitted = cut
        row: Row = {
            "task": self.lessons.task,
            "budget": self.budget,
            "share": self.share,
            "method": self.method,
            "seed": self.seed,
            "seconds": seconds,
            "bare": bare["metric"],
            **_answers(data, refitted, self.source),
            "heads": list(plan.student_shape.n_heads),
            "neurons": list(plan.student_shape.ffn_widths),
            "macs": self._cost.total(plan.student_shape) / self._cost.total(plan.shape),
            "asked": self._n_heads(layout.shape) if self.budget == "heads" else None,
            "open": open_,
            "wanted": self._wanted(layout.shape),
        }
        return [row]

    @property
    def _cost(self) -> CostModel:
        return CostModel(unit="macs", sequence=self.effort.sequence)

    def _planned(
        self, data: TaskData, layout: Layout, calibration: Batches
    ) -> tuple[Plan, PreTrainedModel | None, float | None]:
        """The plan, and where there is such a thing the refitted model, and what a mask kept last.

        A learnt mask may still keep more than its budget when its training is over.
        """
        if self.method in ("obs", "michel", "random"):
            refitted = self.method == "obs"
            spec = PruneSpec(
                score=self.method,
                units=(*self.units, "sublayers"),
                repair=refitted,
                seed=self.seed,
            )
            pruner = Pruner(layout.model, calibration, self._prices(layout.shape), spec)
            found = pruner.prune_to(self._budget_share(layout.shape) * pruner.dense_cost)
            return found.plan, found.model if refitted else None, None
        batches = data.batches(layout.model, self.source, self.effort.train, self.seed)
        gate = self._gate(layout.shape)
        spec_learnt = MaskSpec(steps=self.effort.steps, seed=self.seed)
        rows = learn_masks(layout, batches, label_loss, gate, spec_learnt)
        return gate.plan(), None, rows[-1]["kept"]

    def _n_heads(self, shape: EncoderShape) -> int:
        """Heads that stay, where they are what is equal: the same number for every method."""
        return max(1, round(self.share * sum(shape.n_heads)))

    def _budget_share(self, shape: EncoderShape) -> float:
        """What stays of the prices, see `_prices`; half a head more, for costs are rounded up."""
        if self.budget == "MACs":
            return self.share
        return (self._n_heads(shape) + 0.5) / sum(shape.n_heads)

    def _wanted(self, shape: EncoderShape) -> float:
        """The share that a learnt mask is to keep, of what it counts."""
        if self.method == "subset":
            return self._n_heads(shape) / sum(shape.n_heads)
        return self._mac_share(shape)

    def _gate(self, shape: EncoderShape) -> UnitGate:
        share, cost, units = self._mac_share(shape), self._cost, self.units
        match self.method:
            case "subset":
                return SubsetGate(shape, SubsetSpec(n_heads=self._n_heads(shape), seed=self.seed))
            case "hard-concrete":
                spec = HardConcreteSpec(share=share, cost=cost, units=units, seed=self.seed)
                return HardConcreteGate(shape, spec)
            case "movement":
                return MovementGate(shape, MovementSpec(share=share, cost=cost, units=units))
            case _:
                descent = Descent.within(self.effort.steps, self.seed)
                found = AdaptSpec(share=share, cost=cost, descent=descent, units=units)
                return AdaptGate(shape, found)

    def _mac_share(self, shape: EncoderShape) -> float:
        """What of the MACs stays; where heads are counted, just enough for so many of them."""
        if self.units != ("heads",):
            return self.share
        cost = self._cost
        own = sum(n * cost.head(shape, i) for i, n in enumerate(shape.n_heads))
        kept = self._n_heads(shape) / sum(shape.n_heads)
        return 1 - (1 - kept) * own / cost.total(shape) + 1e-9

    def _prices(self, shape: EncoderShape) -> Prices:
        """MACs; or a head for each head and nothing for the rest."""
        if self.units != ("heads",):
            return self._cost.prices(shape)
        heads, neurons = max(shape.n_heads), max(shape.ffn_widths)
        return Prices(
            unit="macs", fixed=0.0, attention=np.arange(heads + 1.0), ffn=np.zeros(neurons + 1)
        )


def _answers(data: TaskData, model: PreTrainedModel, source: str) -> Row:
    """The metric, and the predictions that it comes from."""
    found: NDArray[np.float64] = predictions(data.logits(model, source))
    labels = encode_labels(data.validation, label2id(model))
    return {"metric": METRICS[data.metric](labels, found), "predictions": found.tolist()}
