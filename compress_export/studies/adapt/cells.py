"""One way to adapt a frozen encoder to a task, at one share of what is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from compress.distillation.identity import fingerprint
from compress.learned import (
    AdaptGate,
    AdaptSpec,
    BitMasks,
    Descent,
    FixedMasks,
    MaskSpec,
    Pace,
    WeightMasks,
    WeightScore,
    learn_masks,
    ranked_masks,
    wearing,
)
from compress.model.batches import Batches, label_loss
from compress.model.binding import bind
from compress.model.layout import Layout
from compress.model.masking import masked
from compress.model.surgery import apply_
from compress.plan.cost import CostModel
from compress.plan.plan import Plan
from compress.saliency.scorers import Scores, magnitude_scores, random_scores
from compress.search.plan_search import plan_by_scores
from compress_export.loading import CALIBRATION_BATCH, load_for
from compress_export.studies.grid import Cell, Row
from compress_export.studies.schools import Lessons, TaskData

__all__ = [
    "PUBLISHED",
    "Effort",
    "Probe",
    "Served",
    "UnitMethod",
    "Units",
    "WeightMethod",
    "Weights",
]

PUBLISHED = 25_000
"""Updates of the paper's runs: three epochs of SST-2 in batches of 8."""
_MOST_EPOCHS = 10

WeightMethod = WeightScore | Literal["adapt"]
UnitMethod = Literal["adapt", "magnitude", "random"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """What every way of adapting may use alike: so many updates for a mask, as many behind it.

    Attributes:
        steps: Updates.
        train: Examples, at most.
        rate: Of the task head.
        sequence: Tokens at which MACs are counted.
    """

    steps: int
    train: int
    rate: float = 1e-3
    sequence: int = 64

    @property
    def epochs(self) -> int:
        """Of a fine-tuning that looks at as many examples, but ten at most."""
        looks = round(2 * self.steps * CALIBRATION_BATCH / self.train)
        return min(max(1, looks), _MOST_EPOCHS)

    def of_weights(self, seed: int) -> Descent | Pace:
        """How masks on weights move: by the paper's update, where there are as many as there."""
        many = self.steps >= PUBLISHED
        return Descent.within(self.steps, seed) if many else Pace(seed=seed)

    def spec(self, seed: int) -> MaskSpec:
        """Of the loop."""
        return MaskSpec(steps=self.steps, learning_rate=self.rate, seed=seed)


@dataclass(frozen=True, kw_only=True)
class _Adapting(Cell):
    """What all cells share: an encoder with a new head for the task, and examples."""

    source: str
    lessons: Lessons
    effort: Effort
    seed: int

    def reads(self) -> tuple[str, ...]:
        """The checkpoint."""
        return (self.source, *self.lessons.files())

    def _started(self) -> tuple[TaskData, PreTrainedModel, Batches]:
        data = TaskData(self.lessons)
        torch.manual_seed(self.seed)  # of the new head
        model = load_for(self.source, data.train)
        return data, model, data.batches(model, self.source, self.effort.train, self.seed)

    def _row(self, method: str, kind: str, share: float, metric: float, **more: object) -> Row:
        facts = {"task": self.lessons.task, "kind": kind, "method": method, "share": share}
        return facts | {"seed": self.seed, "metric": metric} | more


@dataclass(frozen=True, kw_only=True)
class Probe(_Adapting):
    """The encoder as it is; the task head alone learns."""

    @property
    def name(self) -> str:
        """Of the cell."""
        return f"probe-{self.lessons.task}-{self.seed}"

    def work(self) -> list[Row]:
        """One row."""
        data, model, batches = self._started()
        for _ in range(2):  # as long as the others: once for the mask, once behind it
            _teach_head(bind(model), batches, {}, self.effort.spec(self.seed))
        return [self._row("probe", "reference", 1.0, data.judged(model, self.source))]


@dataclass(frozen=True, kw_only=True)
class Weights(_Adapting):
    """Masks on single weights, kept as a file of bits.

    Attributes:
        method: How weights are chosen.
        share: Of the encoder's projections that stays.
        out: Folder for the masks.
    """

    method: WeightMethod
    share: float
    out: str

    @property
    def name(self) -> str:
        """Of the cell."""
        return f"weights-{self.lessons.task}-{self.method}-{self.share:g}-{self.seed}"

    def writes(self) -> tuple[str, ...]:
        """The masks."""
        return (str(self._file),)

    @property
    def _file(self) -> Path:
        return Path(self.out) / f"{self.name}.safetensors"

    def work(self) -> list[Row]:
        """One row."""
        data, model, batches = self._started()
        layout, spec = bind(model), self.effort.spec(self.seed)
        open_ = self.share
        start = time.perf_counter()
        if self.method == "adapt":
            gate = WeightMasks(layout, self.share, self.effort.of_weights(self.seed))
            learn_masks(layout, batches, label_loss, gate, spec, trained=task_head(model))
            kept, open_ = gate.masks(), gate.kept()
        else:
            _teach_head(layout, batches, {}, spec)  # a new head gives no gradients of the task
            kept = ranked_masks(layout, self.method, self.share, batches, label_loss, self.seed)
        _teach_head(layout, batches, kept, spec)
        seconds = time.perf_counter() - start
        names = {id(p): name for name, p in model.named_parameters()}
        masks = BitMasks(kept=kept, own={names[id(p)]: p.detach() for p in task_head(model)})
        path = self._file
        path.parent.mkdir(parents=True, exist_ok=True)
        masks.save(path)
        with wearing(model, masks):
            metric = data.judged(model, self.source)
        more = {"seconds": seconds, "bytes": path.stat().st_size, "file": str(path), "open": open_}
        return [self._row(self.method, "weights", self.share, metric, **more)]


@dataclass(frozen=True, kw_only=True)
class Units(_Adapting):
    """Masks on heads and neurons, which are then removed.

    Attributes:
        method: How units are chosen.
        share: Of the encoder's MACs that stays.
    """

    method: UnitMethod
    share: float

    @property
    def name(self) -> str:
        """Of the cell."""
        return f"units-{self.lessons.task}-{self.method}-{self.share:g}-{self.seed}"

    def work(self) -> list[Row]:
        """One row; the model behind masks and the one without the units must agree."""
        data, model, batches = self._started()
        layout, spec = bind(model), self.effort.spec(self.seed)
        cost = CostModel(unit="macs", sequence=self.effort.sequence)
        start = time.perf_counter()
        plan = self._plan(layout, batches, cost)
        seconds = time.perf_counter() - start
        if self.method != "adapt":  # which has taught the head beside the mask
            with masked(layout, plan):
                _teach_head(layout, batches, {}, spec)
        with masked(layout, plan):
            _teach_head(layout, batches, {}, spec)
            behind = data.logits(model, self.source)
        apply_(model, plan)
        gap = float(abs(data.logits(model, self.source) - behind).max())
        macs = cost.total(plan.student_shape) / cost.total(plan.shape)
        heads, neurons = plan.student_shape.n_heads, plan.student_shape.ffn_widths
        metric = data.judged(model, self.source)
        row = self._row(
            self.method, "units", self.share, metric,
            seconds=seconds, macs=macs, gap=gap, heads=list(heads), neurons=list(neurons),
        )  # fmt: skip
        return [row]

    def _plan(self, layout: Layout, batches: Batches, cost: CostModel) -> Plan:
        shape = layout.shape
        if self.method == "adapt":
            descent = Descent.within(self.effort.steps, self.seed)
            gate = AdaptGate(shape, AdaptSpec(share=self.share, cost=cost, descent=descent))
            head, spec = task_head(layout.model), self.effort.spec(self.seed)
            learn_masks(layout, batches, label_loss, gate, spec, trained=head)
            return gate.plan()
        scores: Scores = (
            magnitude_scores(layout)
            if self.method == "magnitude"
            else random_scores(layout, self.seed)
        )
        prices = cost.prices(shape)
        return plan_by_scores(scores, shape, prices, self.share * prices.total(shape))


@dataclass(frozen=True, kw_only=True)
class Served(Cell):
    """All tasks from one backbone in one process, each behind its own file of bits.

    Attributes:
        source: The backbone.
        tasks: Each with its file and what it must come to.
    """

    source: str
    tasks: tuple[tuple[Lessons, str, float], ...]

    @property
    def name(self) -> str:
        """Of the cell."""
        return "served"

    def reads(self) -> tuple[str, ...]:
        """Backbone and masks."""
        return (self.source, *(file for _, file, _ in self.tasks))

    def work(self) -> list[Row]:
        """One row a task."""
        first = TaskData(self.tasks[0][0])
        model = load_for(self.source, first.train)
        backbone = sum(p.numel() * p.element_size() for p in model.parameters())
        before = fingerprint(model)
        rows: list[Row] = []
        for lessons, file, alone in self.tasks:
            data = TaskData(lessons)
            shaped = load_for(self.source, data.train).config
            with _configured(model, shaped), wearing(model, BitMasks.load(Path(file))):
                metric = data.judged(model, self.source)
            size = Path(file).stat().st_size
            facts = {"task": lessons.task, "metric": metric, "alone": alone, "bytes": size}
            facts["unchanged"] = fingerprint(model) == before
            rows.append(facts | {"backbone_bytes": backbone, "share_of_backbone": size / backbone})
        return rows


@contextmanager
def _configured(model: PreTrainedModel, config: PreTrainedConfig) -> Iterator[None]:
    """Within the block, the model has a config of other labels."""
    before, model.config = model.config, config
    try:
        yield
    finally:
        model.config = before


def task_head(model: PreTrainedModel) -> list[nn.Parameter]:
    """What is the task's own: everything outside the encoder, and its pooler."""
    base = model.base_model
    pooler = getattr(base, "pooler", None)
    own = set() if pooler is None else {id(p) for p in pooler.parameters()}
    shared = {id(p) for p in base.parameters()} - own
    return [p for p in model.parameters() if id(p) not in shared]


def _teach_head(layout: Layout, batches: Batches, masks: dict[str, Tensor], spec: MaskSpec) -> None:
    """Train the task head alone, behind fixed masks on weights."""
    head = task_head(layout.model)
    learn_masks(layout, batches, label_loss, FixedMasks(masks), spec, trained=head)
