"""A family of students from one model: each further down than the last, each repaired.

One walk from the unpruned model to the smallest target leaves a student at every target on the
way. A step looks at the student as it then is and ranks its units (`ranking`), works out what could
go and at what loss increase (`options`), finds the plan that its budget allows (`search`), cuts,
and refits towards the unpruned model (`repair`). Knows prices, not where they come from.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.errors import CheckpointError, DataError, SpecError
from compress.model.batches import (
    Batch,
    Batches,
    Progress,
    first_within,
    forward,
    frozen,
    n_sequences,
    n_tokens,
    silent,
    split_within,
)
from compress.model.binding import bind
from compress.model.outputs import Outputs, Runner
from compress.model.pooling import Pooling
from compress.model.surgery import apply_
from compress.model.task_head import likelihood_of
from compress.plan.cost import Prices
from compress.plan.plan import Plan
from compress.pruner.schedule import falling_costs, held_out, is_near, looked_at
from compress.repair.least_squares import TeacherTargets, repair_
from compress.saliency.pruning_order import PruningOrder, RankingName, kprune_order, obs_order
from compress.search.depth import leave_one_out
from compress.search.options import SearchUnit, encoder_options, settled
from compress.search.plan_search import Judge, Problem, plan_within, search
from compress.search.reachable import cheapest, check_enough, check_reachable, tokens_needed
from compress.validation import above, at_least, validate

__all__ = ["FamilySpec", "Member", "Walk"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilySpec:
    """How to walk down.

    Attributes:
        ranking: In which order units go. `obs`: structured OBS, all layers at once, a quarter of
            the cost a step, plans searched. `kprune`: K-prune's order, layers bottom-up, the rest
            ranked anew once a layer is cut and repaired, by default all in one step; its loss
            increases are sums over single units, which say too little of a whole sublayer's: leave
            those out.
        units: What may go.
        multiple: FFN widths are multiples of it.
        steps: Of one way down to a target; by default with obs as many as it needs where none
            takes away much more than a quarter of the cost that is left. A way of less than a
            tenth of it is one step without a search.
        repair: Refit the output projections after each step.
        trials: Changes of error weights that the last step to a target tries, with obs.
        judged: Tokens that a trial is fitted on, and as many others that it is judged by.
        tokens: That statistics, and repairs on the way to a target, look at; by default a third
            of all, at least 30,000. The repair at a target looks at all.
        damping: Of covariances and of the repair, relative.
        temperature: Of the labels drawn for the curvature.
        pooling: Of an embedding model: what counts is then the pooled vector.
        seed: Of all draws.
    """

    ranking: RankingName = "obs"
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

    def __post_init__(self) -> None:
        validate(
            self,
            multiple=at_least(1),
            steps=at_least(1),
            trials=at_least(0),
            judged=at_least(1),
            tokens=at_least(1),
            damping=above(0),
            temperature=above(0),
        )
        if self.ranking == "kprune" and "layers" in self.units:
            raise SpecError(
                "FamilySpec.units: 'layers' goes with ranking 'obs', found 'kprune'; leave it out"
            )


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
        self.prices, self.spec, self.progress = prices, spec or FamilySpec(), progress
        self._held, self._seen = held_out(batches)
        fitted = self._seen or batches
        tokens, sequences = sum(map(n_tokens, fitted)), sum(map(n_sequences, fitted))
        check_enough(self.teacher.shape, tokens, sequences)
        if not self._seen:
            raise DataError(
                f"calibration needs two batches or more, one to fit on and one to judge by, found "
                f"{len(batches)} of {sequences} examples; {2 * sequences} would do"
            )
        self._outputs = Outputs(
            likelihood=likelihood_of(model),
            pooling=self.spec.pooling,
            temperature=self.spec.temperature,
        )
        self._wanted = self._outputs.of(_runner(model))
        if not all(bool(torch.isfinite(self._wanted(batch)).all()) for batch in self._held):
            raise CheckpointError(
                "the model's outputs must be finite, found NaN or Inf on the calibration data; "
                "repair or retrain the checkpoint"
            )
        self.plan = Plan.full(self.teacher.shape)
        self._student = bind(copy.deepcopy(model))
        self._targets = TeacherTargets(self.teacher, self._seen)

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
        steps = list(falling_costs(self._cost, budget, self.spec))
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
            error=self.error_of(_runner(model)),
        )

    def go_on_from(self, model: PreTrainedModel) -> None:
        """Put a student of the present sizes in the place of the walk's own: a trained one."""
        self._student = bind(copy.deepcopy(model))

    def error_of(self, run: Runner) -> float:
        """Mean divergence of what `run` gives from the unpruned model, on the held-out data.

        Args:
            run: From a batch to a head's output, such as an exported student's.
        """
        return self._outputs.divergence(run, self._wanted, self._held)

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

    @property
    def _cost(self) -> float:
        return self.prices.total(self._student.shape)

    def _step(self, budget: float, *, last: bool) -> None:
        finally_seen = self._seen if last else self._some()
        if self.spec.ranking == "kprune":
            top = self._student.shape.n_layers - 1
            for layer in range(top):
                self._cut(self._plan_of_layer(layer, budget), self._some())
            self._cut(self._plan_of_layer(top, budget), finally_seen)
        else:
            far = not is_near(self._cost, budget)
            self._cut(self._plan_at_once(budget, searched=last and far), finally_seen)

    def _plan_at_once(self, budget: float, *, searched: bool) -> Plan:
        problem, spec = self._problem(budget), self.spec
        if searched and spec.trials:
            return search(problem, self._judge(), spec.trials, spec.seed, self.progress)
        return plan_within(problem, {})

    def _plan_of_layer(self, layer: int, budget: float) -> Plan:
        """What becomes of one layer when those below are settled and those above may still go."""
        problem = self._problem(budget)
        options = [settled(o) if o.layer < layer else o for o in problem.options]
        whole = Plan.full(problem.shape)
        cut = plan_within(replace(problem, options=options), {}).layers[layer]
        layers = tuple(cut if i == layer else kept for i, kept in enumerate(whole.layers))
        return replace(whole, layers=layers)

    def _problem(self, budget: float) -> Problem:
        spec, student = self.spec, self._student
        options = encoder_options(
            student,
            self._ranks(),
            units=spec.units,
            multiple=spec.multiple,
            drop_loss_increases=self._drop_loss_increases(),
        )
        return Problem(shape=student.shape, options=options, prices=self.prices, budget=budget)

    def _ranks(self) -> PruningOrder:
        student, some, loss = self._student, self._some(), self._outputs.loss(self.spec.seed)
        if self.spec.ranking == "kprune":
            return kprune_order(student, some, loss, self.progress)
        return obs_order(student, some, loss, self.spec.damping, self.progress)

    def _cut(self, step: Plan, batches: Batches) -> None:
        """Carry a step out, and refit what is left on `batches`."""
        apply_(self._student.model, step)
        self.plan = self.plan.then(step)
        self._student = bind(self._student.model)
        if self.spec.repair:
            repair_(
                self._student,
                self.teacher,
                self.plan,
                batches,
                damping=self.spec.damping,
                progress=self.progress,
                teacher_targets=self._targets,
            )

    def _some(self) -> Batches:
        return looked_at(self._seen, self.spec)

    def _judge(self) -> Judge:
        """Mean divergence of a plan's student from the unpruned model, after a quick repair."""
        tokens = max(self.spec.judged, tokens_needed(self._student.shape))
        fitted, judged = split_within(self._seen, tokens)
        wanted = self._outputs.of(_runner(self.teacher.model))
        teacher_targets = TeacherTargets(self.teacher, fitted)

        def judge(plan: Plan) -> float:
            model = copy.deepcopy(self._student.model).eval()
            apply_(model, plan)
            whole = self.plan.then(plan)
            if self.spec.repair:
                damping = self.spec.damping
                student = bind(model)
                repair_(
                    student,
                    self.teacher,
                    whole,
                    fitted,
                    damping=damping,
                    teacher_targets=teacher_targets,
                )
            return self._outputs.divergence(_runner(model), wanted, judged)

        return judge

    def _drop_loss_increases(self) -> dict[int, float]:
        """Loss increase of dropping each layer whole, in the unit of the other options'.

        The layer that would be missed most is never offered, nor one that cannot be skipped.
        """
        shape = self._student.shape
        if "layers" not in self.spec.units or shape.groups or shape.n_layers == 1:
            return {}
        batches, run = first_within(self._seen, self.spec.judged), _runner(self._student.model)
        own = self._outputs.of(_runner(copy.deepcopy(self._student.model)))
        loss_increases = leave_one_out(
            self._student, lambda: self._outputs.loss_increase(run, own, batches), self.progress
        )
        allowed = np.argsort(loss_increases)[:-1]
        return {int(i): float(loss_increases[i]) for i in allowed if np.isfinite(loss_increases[i])}


def _runner(model: PreTrainedModel) -> Runner:
    def run(batch: Batch) -> Tensor:
        with frozen(model):
            return forward(model, batch)

    return run
