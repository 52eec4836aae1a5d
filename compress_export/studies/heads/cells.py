"""The parts of the grid: importances, curves, and fine-tunings of what was pruned."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from compress.model.batches import Batches
from compress.model.binding import bind
from compress.model.layout import Layout
from compress.model.masking import masked
from compress.model.surgery import apply_
from compress.plan.plan import Plan
from compress_export.studies.grid import Cell, Row
from compress_export.studies.heads.ranking import LossKind, by_layer, head_scores, plan_without
from compress_export.studies.heads.sights import Sight, TaskJudge, TextJudge
from compress_export.studies.schools import Lessons, TaskData

__all__ = ["Curve", "Deduction", "Importance"]


@dataclass(frozen=True, kw_only=True)
class Importance(Cell):
    """The importance of every head.

    Attributes:
        of: What it is called in tables.
        sight: Model and loss.
        kind: Which loss.
        count: Training examples, where the loss is a task's.
        seed: Of the examples, or of the masks.
    """

    of: str
    sight: Sight
    kind: LossKind
    count: int
    seed: int

    @property
    def name(self) -> str:
        """Of the cell."""
        return f"importance-{self.of}-{self.seed}"

    def reads(self) -> tuple[str, ...]:
        """Checkpoints."""
        return self.sight.files()

    def work(self) -> list[Row]:
        """One row a head."""
        model = self.sight.model()
        batches = self.sight.batches(model, self.count, self.seed)
        heads = head_scores(bind(model), batches, self.kind, self.seed)
        return [
            {"of": self.of, "seed": self.seed, "layer": i, "head": j, "score": float(score)}
            for i, scores in enumerate(heads)
            for j, score in enumerate(scores)
        ]


@dataclass(frozen=True, kw_only=True)
class Curve(Cell):
    """What is left when more and more heads are masked.

    Attributes:
        of: The task, or `mlm`.
        order_name: How heads are ordered.
        sight: Model and what it is judged by.
        order: Heads from the least important on, counted through the layers; left out, they are
            scored anew at each share.
        kind: The loss that they are scored anew by.
        normalised: Whether each layer's scores are divided by their norm.
        shares: Of heads to mask.
        count: Training examples to score by.
        seed: Of order and examples.
    """

    of: str
    order_name: str
    sight: Sight
    order: tuple[int, ...] | None
    shares: tuple[float, ...]
    kind: LossKind = "task"
    normalised: bool = False
    count: int = 0
    seed: int = 0

    @property
    def name(self) -> str:
        """Of the cell."""
        return f"curve-{self.of}-{self.order_name}-{self.seed}"

    def reads(self) -> tuple[str, ...]:
        """Checkpoints."""
        return self.sight.files()

    def work(self) -> list[Row]:
        """One row a share."""
        model = self.sight.model()
        layout = bind(model)
        judge = TaskJudge(self.sight, model) if self.sight.lessons else TextJudge(self.sight)
        scoring = [] if self.order else self.sight.batches(model, self.count, self.seed)
        gone: tuple[int, ...] = ()
        rows = []
        for share in self.shares:
            n_gone = round(share * sum(layout.shape.n_heads))
            gone = self._gone(layout, scoring, gone, n_gone)
            with masked(layout, plan_without(layout.shape, gone)) if gone else nullcontext():
                found = judge(model, whole=not gone)
            facts = {"of": self.of, "order": self.order_name, "seed": self.seed, "share": share}
            rows.append(facts | {"heads_removed": n_gone} | found)
        return rows

    def _gone(
        self, layout: Layout, scoring: Batches, gone: tuple[int, ...], count: int
    ) -> tuple[int, ...]:
        """The heads to mask: `count` of them, those of before among them."""
        if self.order is not None:
            return self.order[:count]
        if count == len(gone):
            return gone
        with masked(layout, plan_without(layout.shape, gone)) if gone else nullcontext():
            heads = head_scores(layout, scoring, self.kind, self.seed)
        order = by_layer(heads) if self.normalised else heads
        ranked = np.argsort(np.concatenate(order), kind="stable").tolist()
        left = [head for head in ranked if head not in set(gone)]
        return (*gone, *left[: count - len(gone)])


@dataclass(frozen=True, kw_only=True)
class Deduction(Cell):
    """A pruned model fine-tuned: what pre-training lost against what the task keeps.

    Attributes:
        source: Checkpoint that was not fine-tuned.
        lessons: The task.
        order: Heads from the least important on.
        share: Of heads to remove.
        seed: Of the training.
        out: Folder for the checkpoint.
    """

    source: str
    lessons: Lessons
    order: tuple[int, ...]
    share: float
    seed: int
    out: str

    @property
    def name(self) -> str:
        """Of the cell."""
        return f"deduction-{self.lessons.task}-{self.share:g}-{self.seed}"

    def reads(self) -> tuple[str, ...]:
        """The checkpoint."""
        return (self.source, *self.lessons.files())

    def work(self) -> list[Row]:
        """One row."""
        data = TaskData(self.lessons)

        def prune(model: PreTrainedModel) -> Plan | None:
            shape = bind(model).shape
            gone = self.order[: round(self.share * len(self.order))]
            if not gone:
                return None
            plan = plan_without(shape, gone)
            apply_(model, plan)
            return plan

        value = data.fine_tuned(self.source, self.seed, Path(self.out), prune=prune)
        facts = {"task": self.lessons.task, "share": self.share, "seed": self.seed}
        return [facts | {"metric": value}]
