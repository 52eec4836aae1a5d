"""A family of students from one model: each further down than the last, each repaired.

One walk from the unpruned model to the smallest target leaves a student at every target on the
way. A step looks at the student as it then is (`statistics`), works out what could go and at what
harm (`options`), finds the plan that its budget allows (`search`), cuts, and refits towards the
unpruned model (`repair`). Knows prices, not where they come from.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.batches import (
    Batch,
    Batches,
    Loss,
    Progress,
    divergence,
    forward,
    frozen,
    sampled_fisher_loss,
    silent,
)
from compress.binding import bind
from compress.cost import Prices
from compress.depth import leave_one_out
from compress.errors import BudgetError, CheckpointError, DataError
from compress.heads import head_of
from compress.options import SearchUnit, encoder_options
from compress.plan import Plan
from compress.pooling import Pooling
from compress.repair import repair_
from compress.search import Judge, Problem, search
from compress.statistics import observe
from compress.surgery import apply_

__all__ = ["FamilySpec", "Member", "Walk"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilySpec:
    """How to walk down.

    Attributes:
        units: What may go.
        multiple: FFN widths are multiples of it.
        step: Most that one step takes away, as a share of the cost that is left.
        trials: Changes of error weights that a step tries.
        judged: Sequences that a trial is judged on.
        damping: Of covariances and of the repair, relative.
        temperature: Of the labels drawn for the curvature.
        pooling: Of an embedding model: what counts is then the pooled vector.
        seed: Of all draws.
    """

    units: tuple[SearchUnit, ...] = ("heads", "neurons", "sublayers")
    multiple: int = 16
    step: float = 0.25
    trials: int = 12
    judged: int = 256
    damping: float = 0.001
    temperature: float = 2.0
    pooling: Pooling | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One student of the family.

    Attributes:
        model: In evaluation mode; its own copy.
        plan: From the unpruned model.
        cost: Predicted, in the unit of the prices.
        error: Mean divergence from the unpruned model on calibration data held out from the
            repair, in nats (squared difference for one output or representations).
    """

    model: PreTrainedModel
    plan: Plan
    cost: float
    error: float


class Walk:
    """The walk from a model down to smaller and smaller students.

    Args:
        model: A fine-tuned encoder of a supported family; left as it is.
        batches: Calibration data; a sixteenth of it, at least one batch, is held out to tell
            each student's error.
        prices: What sizes cost; may be set anew between steps.
        spec: How to walk.
        progress: Told how far each step is.

    Raises:
        DataError: There are fewer than two batches.
        CheckpointError: The model's outputs are not finite on the calibration data.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        batches: Batches,
        prices: Prices,
        spec: FamilySpec | None = None,
        progress: Progress = silent,
    ) -> None:
        if len(batches) < 2:
            raise DataError(
                f"calibration needs at least two batches, found {len(batches)}; give it more data"
            )
        self.teacher = bind(model)
        self.prices, self.spec, self.progress = prices, spec or FamilySpec(), progress
        n_held = max(1, len(batches) // 16)
        self._held, self._seen = batches[:n_held], batches[n_held:]
        self._wanted = [self._output(model, batch) for batch in self._held]
        if not all(bool(torch.isfinite(output).all()) for output in self._wanted):
            raise CheckpointError(
                "the model's outputs must be finite, found NaN or Inf on the calibration data; "
                "repair or retrain the checkpoint"
            )
        self.plan = Plan.full(self.teacher.shape)
        self._student = bind(copy.deepcopy(model))

    @property
    def dense_cost(self) -> float:
        """What the unpruned model costs."""
        return self.prices.total(self.teacher.shape)

    def down_to(self, budget: float) -> Member:
        """Go on until the student costs at most `budget`; give a copy of it.

        Raises:
            BudgetError: Nothing that may go makes the student that cheap.
        """
        self.check(budget)
        for step in self._budgets(budget):
            self._step(step)
        return self.member()

    def member(self) -> Member:
        """The student as it now is."""
        model = copy.deepcopy(self._student.model).eval()
        return Member(
            model=model,
            plan=self.plan,
            cost=self.prices.total(self._student.shape),
            error=self._error(model),
        )

    def floor(self) -> float:
        """What the cheapest student within reach costs."""
        shape, units = self._student.shape, self.spec.units
        floors = [
            shape.uses[i] * (self._least_attention(shape.n_heads[i]) + self._least_ffn(width))
            for i, width in enumerate(shape.ffn_widths)
        ]
        layers = min(floors) if "layers" in units and not shape.groups else sum(floors)
        return self.prices.fixed + layers

    def check(self, budget: float) -> None:
        """Refuse a budget that cannot be reached.

        Raises:
            BudgetError: Names the cheapest that can.
        """
        floor = self.floor()
        if budget < floor:
            raise BudgetError(
                f"target must be at least {floor:.4g} {self.prices.unit} "
                f"({self.dense_cost / floor:.2f}× less than the unpruned model), the cheapest "
                f"that removing {', '.join(self.spec.units)} can reach, found {budget:.4g}; "
                "ask for less, or let more go (prune.units)"
            )

    def _budgets(self, budget: float) -> Iterator[float]:
        """Costs that fall geometrically from the present one to `budget`."""
        now = self.prices.total(self._student.shape)
        if now <= budget:
            return
        n_steps = max(1, math.ceil(math.log(now / budget) / -math.log(1 - self.spec.step) - 0.25))
        for i in range(1, n_steps + 1):
            yield max(now * (budget / now) ** (i / n_steps), budget)

    def _step(self, budget: float) -> None:
        spec, student = self.spec, self._student
        statistics = observe(student, self._seen, self._loss(), self.progress)
        options = encoder_options(
            student,
            statistics,
            units=spec.units,
            multiple=spec.multiple,
            damping=spec.damping,
            drop_harms=self._drop_harms(),
        )
        problem = Problem(shape=student.shape, options=options, prices=self.prices, budget=budget)
        step = search(problem, self._judge(), spec.trials, spec.seed, self.progress)
        apply_(student.model, step)
        self.plan = self.plan.then(step)
        self._student = bind(student.model)
        repair_(
            self._student,
            self.teacher,
            self.plan,
            self._seen,
            damping=spec.damping,
            progress=self.progress,
        )

    def _judge(self) -> Judge:
        """Mean divergence of a plan's student from the unpruned model, after a quick repair."""
        fitted, judged = _split(self._seen, self.spec.judged)
        wanted = [self._output(self.teacher.model, batch) for batch in judged] if self.spec.trials else []

        def judge(plan: Plan) -> float:
            model = copy.deepcopy(self._student.model)
            apply_(model, plan)
            whole = self.plan.then(plan)
            repair_(bind(model), self.teacher, whole, fitted, damping=self.spec.damping)
            return self._divergence(model, judged, wanted)

        return judge

    def _drop_harms(self) -> dict[int, float]:
        """Harm of dropping layers whole, on the scale of the other options' harms.

        Half the curvature along a change is, to second order, the divergence that it makes; so
        twice the divergence measured without a layer stands beside the sums of the others. The
        layer that would be missed most is never offered.
        """
        if "layers" not in self.spec.units or self._student.shape.groups:
            return {}
        batches = _first(self._seen, self.spec.judged)
        harms = 2.0 * leave_one_out(self._student, batches, self.progress)
        allowed = np.argsort(harms)[:-1]
        return {int(layer): float(harms[layer]) for layer in allowed}

    def _error(self, model: PreTrainedModel) -> float:
        return self._divergence(model, self._held, self._wanted)

    def _divergence(
        self, model: PreTrainedModel, batches: Batches, wanted: list[Tensor]
    ) -> float:
        embeds = head_of(model).embeds
        total = sum(
            float(divergence(reference, self._output(model, batch), batch, embeds=embeds))
            for batch, reference in zip(batches, wanted, strict=True)
        )
        return total / sum(len(batch["input_ids"]) for batch in batches)

    def _output(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        with frozen(model), torch.no_grad():
            return self._pooled(forward(model, batch), batch)

    def _pooled(self, output: Tensor, batch: Batch) -> Tensor:
        pooling = self.spec.pooling
        return output if pooling is None else pooling(output, batch["attention_mask"])

    def _loss(self) -> Loss:
        """Its squared gradients are a Fisher matrix of what the model gives, labels unread."""
        spec = self.spec
        embeds = head_of(self.teacher.model).embeds
        drawn = sampled_fisher_loss(spec.temperature, spec.seed, embeds=embeds)
        return lambda output, batch: drawn(self._pooled(output, batch), batch)

    def _least_attention(self, n_heads: int) -> float:
        fewest = 0 if "sublayers" in self.spec.units else min(1, n_heads)
        return float(self.prices.attention[fewest if "heads" in self.spec.units else n_heads])

    def _least_ffn(self, width: int) -> float:
        fewest = 0 if "sublayers" in self.spec.units else min(self.spec.multiple, width)
        return float(self.prices.ffn[fewest if "neurons" in self.spec.units else width])


def _split(batches: Batches, sequences: int) -> tuple[Batches, Batches]:
    """About so many sequences to fit on, and as many others to judge by."""
    half = _first(batches, sequences)
    return half, _first(batches[len(half) :], sequences) or half


def _first(batches: Batches, sequences: int) -> Batches:
    """The first batches, at least one, that together hold about so many sequences."""
    sizes = np.cumsum([len(batch["input_ids"]) for batch in batches])
    return batches[: max(1, int(np.searchsorted(sizes, sequences, side="right")))]
