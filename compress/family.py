"""A family of students from one model: each further down than the last, each repaired.

One walk from the unpruned model to the smallest target leaves a student at every target on the
way. A step looks at the student as it then is (`statistics`), works out what could go and at what
harm (`options`), finds the plan that its budget allows (`search`), cuts, and refits towards the
unpruned model (`repair`). Knows prices, not where they come from.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

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
    n_tokens,
    sampled_fisher_loss,
    silent,
)
from compress.binding import bind
from compress.cost import Prices
from compress.depth import leave_one_out
from compress.errors import CheckpointError, DataError
from compress.heads import head_of
from compress.options import SearchUnit, encoder_options
from compress.plan import Plan
from compress.pooling import Pooling
from compress.reachable import cheapest, check_enough, check_reachable
from compress.repair import repair_
from compress.search import Judge, Problem, plan_within, search
from compress.statistics import observe
from compress.surgery import apply_

__all__ = ["FamilySpec", "Member", "Runner", "Walk"]

Runner: TypeAlias = Callable[[Batch], Tensor]

_MOST = 0.25
_LEAST_TOKENS = 30_000


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilySpec:
    """How to walk down.

    Attributes:
        units: What may go.
        multiple: FFN widths are multiples of it.
        steps: Of one way down to a target; by default as many as it needs where none takes away
            more than a quarter of the cost that is left.
        repair: Refit the output projections after each step.
        trials: Changes of error weights that the last step to a target tries.
        judged: Tokens that a trial is fitted on, and as many others that it is judged by.
        tokens: That statistics, and repairs on the way to a target, look at; by default a third
            of all, at least 30,000. The repair at a target looks at all.
        damping: Of covariances and of the repair, relative.
        temperature: Of the labels drawn for the curvature.
        pooling: Of an embedding model: what counts is then the pooled vector.
        seed: Of all draws.
    """

    units: tuple[SearchUnit, ...] = ("heads", "neurons", "sublayers")
    multiple: int = 16
    steps: int | None = None
    repair: bool = True
    trials: int = 8
    judged: int = 8_000
    tokens: int | None = None
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
        self.teacher = bind(model)
        tokens, sequences = sum(map(n_tokens, batches)), sum(map(_sequences, batches))
        check_enough(self.teacher.shape, tokens, sequences)
        if len(batches) < 2:
            raise DataError(
                f"calibration needs two batches or more, one to fit on and one to judge by, found "
                f"{len(batches)} of {sequences} examples; {2 * sequences} would do"
            )
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
        steps = list(self._budgets(budget))
        for done, step in enumerate(steps, start=1):
            self._step(step, last=done == len(steps))
        return self.member()

    def leap_to(self, budget: float) -> Member:
        """The same in a single step, unsearched: quicker, and worse."""
        self.check(budget)
        self._step(budget, last=False)
        return self.member()

    def member(self) -> Member:
        """The student as it now is."""
        model = copy.deepcopy(self._student.model).eval()
        return Member(
            model=model,
            plan=self.plan,
            cost=self.prices.total(self._student.shape),
            error=self.error_of(lambda batch: forward(model, batch)),
        )

    def error_of(self, run: Runner) -> float:
        """Mean divergence of what `run` gives from the unpruned model, on the held-out data.

        Args:
            run: From a batch to a head's output, such as an exported student's.
        """
        return self._divergence(run, self._held, self._wanted)

    def floor(self) -> float:
        """What the cheapest student within reach costs."""
        return cheapest(self._student.shape, self.prices, self.spec.units, self.spec.multiple)

    def check(self, budget: float) -> None:
        """Refuse a budget that cannot be reached.

        Raises:
            BudgetError: Names the cheapest that can.
        """
        unit, units = self.prices.unit, self.spec.units
        check_reachable(budget, self.floor(), self.dense_cost, unit, units)

    def _budgets(self, budget: float) -> Iterator[float]:
        """Costs that fall geometrically from the present one to `budget`."""
        now = self.prices.total(self._student.shape)
        if now <= budget:
            return
        needed = math.ceil(math.log(now / budget) / -math.log(1 - _MOST) - 0.25)
        n_steps = self.spec.steps or max(1, needed)
        for i in range(1, n_steps + 1):
            yield max(now * (budget / now) ** (i / n_steps), budget)

    def _step(self, budget: float, *, last: bool) -> None:
        spec, student = self.spec, self._student
        some = self._some()
        statistics = observe(student, some, self._loss(), self.progress)
        options = encoder_options(
            student,
            statistics,
            units=spec.units,
            multiple=spec.multiple,
            damping=spec.damping,
            drop_harms=self._drop_harms(),
        )
        problem = Problem(shape=student.shape, options=options, prices=self.prices, budget=budget)
        if last and spec.trials:
            step = search(problem, self._judge(), spec.trials, spec.seed, self.progress)
        else:
            step = plan_within(problem, {})
        apply_(student.model, step)
        self.plan = self.plan.then(step)
        self._student = bind(student.model)
        if spec.repair:
            repair_(
                self._student,
                self.teacher,
                self.plan,
                self._seen if last else some,
                damping=spec.damping,
                progress=self.progress,
            )

    def _some(self) -> Batches:
        most = self.spec.tokens
        if most is None:
            most = max(_LEAST_TOKENS, sum(map(n_tokens, self._seen)) // 3)
        return _first(self._seen, n_tokens, most)

    def _judge(self) -> Judge:
        """Mean divergence of a plan's student from the unpruned model, after a quick repair."""
        fitted, judged = _split(self._seen, self.spec.judged)
        wanted = [self._output(self.teacher.model, batch) for batch in judged]

        def judge(plan: Plan) -> float:
            model = copy.deepcopy(self._student.model).eval()
            apply_(model, plan)
            whole = self.plan.then(plan)
            if self.spec.repair:
                repair_(bind(model), self.teacher, whole, fitted, damping=self.spec.damping)
            return self._divergence(lambda batch: forward(model, batch), judged, wanted)

        return judge

    def _drop_harms(self) -> dict[int, float]:
        """Harm of dropping layers whole, in the unit of the other options' harms.

        To second order a change ``δ`` of the outputs does ``δᵀ F δ`` of harm: twice the divergence
        of classes at the temperature that their labels are drawn at, and the squared difference
        where the output is one number or a representation. The layer that would be missed most
        is never offered, nor one that cannot be skipped.
        """
        shape = self._student.shape
        if "layers" not in self.spec.units or shape.groups or shape.n_layers == 1:
            return {}
        batches = _first(self._seen, n_tokens, self.spec.judged)
        own = [self._softened(self._output(self._student.model, batch)) for batch in batches]
        harms = leave_one_out(self._student, lambda: self._harm(batches, own), self.progress)
        allowed = np.argsort(harms)[:-1]
        return {int(i): float(harms[i]) for i in allowed if np.isfinite(harms[i])}

    def _harm(self, batches: Batches, own: list[Tensor]) -> float:
        def run(batch: Batch) -> Tensor:
            return self._softened(forward(self._student.model, batch))

        squared = self._embeds or own[0].shape[-1] == 1
        return self._divergence(run, batches, own) * (1.0 if squared else 2.0)

    def _softened(self, output: Tensor) -> Tensor:
        return output if self._embeds else output / self.spec.temperature

    @property
    def _embeds(self) -> bool:
        return head_of(self.teacher.model).embeds

    def _divergence(self, run: Runner, batches: Batches, wanted: list[Tensor]) -> float:
        total = 0.0
        for batch, reference in zip(batches, wanted, strict=True):
            with torch.no_grad():
                output = self._pooled(run(batch), batch)
            total += float(divergence(reference, output, batch, embeds=self._embeds))
        return total / sum(map(_sequences, batches))

    def _output(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        with frozen(model), torch.no_grad():
            return self._pooled(forward(model, batch), batch)

    def _pooled(self, output: Tensor, batch: Batch) -> Tensor:
        pooling = self.spec.pooling
        return output if pooling is None else pooling(output, batch["attention_mask"])

    def _loss(self) -> Loss:
        """Its squared gradients are a Fisher matrix of what the model gives, labels unread."""
        spec = self.spec
        drawn = sampled_fisher_loss(spec.temperature, spec.seed, embeds=self._embeds)
        return lambda output, batch: drawn(self._pooled(output, batch), batch)


def _split(batches: Batches, tokens: int) -> tuple[Batches, Batches]:
    """About so many tokens to fit on, and as many others to judge by; the same if there are few."""
    half = _first(batches, n_tokens, tokens)
    return half, _first(batches[len(half) :] or half, n_tokens, tokens)


def _first(batches: Batches, count: Callable[[Batch], int], most: int) -> Batches:
    """The first batches, at least one, that together count no more than `most`."""
    sizes = np.cumsum([count(batch) for batch in batches])
    return batches[: max(1, int(np.searchsorted(sizes, most, side="right")))]


def _sequences(batch: Batch) -> int:
    return len(batch["input_ids"])
