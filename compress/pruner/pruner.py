"""The pruner: score, plan, cut, repair, step by step, down to one budget after the other.

Each step scores the units of the student as it then is (`compress.saliency`), works out what could
be removed and how the loss would grow (`compress.search.options`), finds the plan that the step's
budget allows (`compress.search.plan_search`), cuts (`compress.model.surgery`), and refits the
remaining output projections to the unpruned model (`compress.repair`). Knows prices, not where they
come from; knows no task: data are batches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel

from compress.errors import CheckpointError, SpecError
from compress.model.batches import (
    Batches,
    Progress,
    silent,
)
from compress.model.outputs import Outputs, Runner, runner
from compress.model.task_head import likelihood_of
from compress.plan.cost import Prices
from compress.plan.plan import EncoderShape, Plan
from compress.pruner.schedule import (
    after_drop,
    cheapest_cost,
    check_amount,
    check_budget,
    check_shape,
    check_types,
    head_counts,
    is_near,
    looked_at,
    split_held_out,
    step_costs,
)
from compress.pruner.spec import PruneSpec
from compress.pruner.storage import InMemory, Storage
from compress.pruner.trials import Trials
from compress.saliency.pruning_order import PruningOrder, order_of
from compress.saliency.scorers import (
    GradientScore,
    Scores,
    gradient_scores,
    kprune_scores,
    scorer,
)
from compress.search.depth import drop_layers
from compress.search.options import encoder_options, settled
from compress.search.plan_search import Problem, plan_within, search
from compress.search.uniform import uniform_plan

__all__ = ["PrunedModel", "Pruner"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PrunedModel:
    """A student.

    Attributes:
        model: The student, in evaluation mode, independent of the pruner.
        plan: What of the unpruned model it keeps.
        cost: Its predicted cost, in the unit of the prices.
        error: Mean divergence from the unpruned model on the held-out batches, in nats per sequence
            (mean squared difference for numbers and representations); `None` if none are held out.
        scores: Scores of the last step's units, before its cut; `None` with `obs`, which gives
            orders instead of values, and where nothing was cut.
    """

    model: PreTrainedModel
    plan: Plan
    cost: float
    error: float | None
    scores: Scores | None = None


class Pruner:
    """Prunes one model to smaller and smaller budgets; gives a student at each.

    Args:
        model: A fine-tuned encoder of a supported family, which is left as it is; or a storage:
            `compress.streamed.InFiles` for a model that does not fit into memory.
        batches: Calibration data. What `spec.held_out` says is held out from all fits.
        prices: What sizes cost. They may be replaced between budgets.
        spec: How to prune. Default: structured OBS with repair and search.
        progress: Called as `progress(label, done, total)`.

    Raises:
        DataError: There is too little data to fit on, or none to hold out.
        CheckpointError: The model's outputs are not finite on the calibration data.
        SpecError: The storage cannot do what the spec asks for.

    Example::

        pruner = Pruner(model, batches, table.prices(mix))  # milliseconds, from a `LatencyTable`
        for speedup in (1.5, 2, 3):
            student = pruner.prune_to(pruner.dense_cost / speedup)
    """

    def __init__(
        self,
        model: PreTrainedModel | Storage,
        batches: Batches,
        prices: Prices,
        spec: PruneSpec | None = None,
        progress: Progress = silent,
    ) -> None:
        check_types(prices, spec, batches)
        self.prices, self.spec, self.progress = prices, spec or PruneSpec(), progress
        self._storage = InMemory(model) if isinstance(model, PreTrainedModel) else model
        self.teacher = self._storage.teacher
        self._check_storage()
        check_shape(self.teacher, self.spec)
        self._held, self._seen = split_held_out(batches, self.spec)
        check_amount(self.teacher.shape, batches, self._seen, self.spec)
        self._outputs = Outputs(
            likelihood=likelihood_of(self.teacher.model),
            pooling=self.spec.pooling,
            temperature=self.spec.temperature,
        )
        self._expected = self._outputs.of(runner(self.teacher.model))
        self._check_finite()
        self.plan = Plan.full(self.teacher.shape)
        self.scores: Scores | None = None
        self._dropped = not self.spec.drop
        self._storage.begin(self._seen, self.spec.damping if self.spec.repair else None, progress)

    @property
    def dense_cost(self) -> float:
        """The cost of the unpruned model."""
        return self.prices.total(self.teacher.shape)

    def cheapest_cost(self) -> float:
        """The cost of the cheapest student within reach."""
        return cheapest_cost(self.teacher, self._shape(), self.prices, self.spec)

    def check(self, budget: float) -> None:
        """Refuse a budget that cannot be met.

        Raises:
            BudgetError: Names the cheapest that can.
        """
        check_budget(self.teacher, self._shape(), self.prices, budget, self.spec)

    def prune_to(self, budget: float, *, quick: bool = False) -> PrunedModel:
        """Go on until the student costs at most `budget`.

        Args:
            budget: The most that the student may cost, in the unit of the prices.
            quick: Take one step, without a search and without the repair on all data: sooner done,
                and less accurate.

        Returns:
            A copy of the student.

        Raises:
            BudgetError: Nothing that may be removed makes the student that cheap.
        """
        self.check(budget)
        now = self.prices.total(self._shape())
        costs = (budget,) if quick else step_costs(now, budget, self.spec)
        searched = not quick and not is_near(now, budget)
        if not self._dropped:
            self._drop_layers(final=not costs)
        elif not costs:
            self._storage.finish(self.plan, self._seen)
        for cost in costs[:-1]:
            self._step(cost, self._some())
        for cost in costs[-1:]:
            fitted = self._some() if quick else self._seen
            self._step(cost, fitted, searched=searched, final=True)
        return self.pruned()

    def pruned(self) -> PrunedModel:
        """The student as it now is."""
        model = self._storage.snapshot()
        with self._storage.reading():
            error = self.error_of(runner(model)) if self._held else None
        return PrunedModel(
            model=model,
            plan=self.plan,
            cost=self.prices.total(self._storage.student.shape),
            error=error,
            scores=self.scores,
        )

    def continue_from(self, model: PreTrainedModel) -> None:
        """Go on from another student of the present sizes: one that was trained meanwhile."""
        if not isinstance(self._storage, InMemory):
            raise SpecError(
                "continue_from: the student lies in files; start another Pruner from it"
            )
        self._storage.replace(model)

    def error_of(self, run: Runner) -> float:
        """Mean divergence of a student's outputs from the unpruned model's, on held-out batches.

        Args:
            run: A function from a batch to a head's outputs, such as an exported student.

        Raises:
            SpecError: The spec holds nothing out.
        """
        if not self._held:
            raise SpecError("PruneSpec.held_out: 0 leaves nothing to measure an error on; raise it")
        return self._outputs.divergence(run, self._expected, self._held)

    def _shape(self) -> EncoderShape:
        """The student's shape, once layers are dropped."""
        if self._dropped:
            return self._storage.student.shape
        return after_drop(self.teacher, self.spec)

    def _drop_layers(self, *, final: bool) -> None:
        with self._storage.reading():
            dropped = drop_layers(
                self._storage.student, self.spec.drop, self.spec.strategy, self._seen, self.progress
            )
        self._cut(dropped, self._seen, final=final)
        self._dropped = True

    def _step(
        self, budget: float, fitted: Batches, *, searched: bool = False, final: bool = False
    ) -> None:
        """Score, plan, cut and repair once.

        Args:
            budget: The most that the student may cost afterwards.
            fitted: Batches that the repair looks at.
            searched: Whether the plan is searched by trials.
            final: Whether this is the last cut.
        """
        if self.spec.score != "kprune":
            self._cut(self._plan(budget, searched=searched), fitted, final=final)
            return
        top = self._storage.student.shape.n_layers - 1
        for layer in range(top):
            self._cut(self._plan_of_layer(layer, budget), self._some(), final=False)
        self._cut(self._plan_of_layer(top, budget), fitted, final=final)

    def _plan(self, budget: float, *, searched: bool) -> Plan:
        problem, spec = self._problem(budget), self.spec
        if spec.layout == "uniform":
            return uniform_plan(problem, head_counts(self.teacher))
        if searched and spec.n_trials and self._storage.in_memory:
            judge = self._trials().judge(self._storage.student, self.plan)
            return search(problem, judge, spec.n_trials, spec.seed, self.progress)
        return plan_within(problem, {})

    def _plan_of_layer(self, layer: int, budget: float) -> Plan:
        """The plan of one layer when those below are settled and those above may still be cut."""
        problem = self._problem(budget)
        options = [settled(o) if o.layer < layer else o for o in problem.options]
        whole = Plan.full(problem.shape)
        cut = plan_within(replace(problem, options=options), {}).layers[layer]
        layers = tuple(cut if i == layer else kept for i, kept in enumerate(whole.layers))
        return replace(whole, layers=layers)

    def _problem(self, budget: float) -> Problem:
        student = self._storage.student
        options = encoder_options(
            student.shape,
            self._order(),
            units=self.spec.removable,
            round_to=self.spec.round_to,
            drop_loss_increases=self._trials().drop_loss_increases(student),
        )
        return Problem(shape=student.shape, options=options, prices=self.prices, budget=budget)

    def _trials(self) -> Trials:
        return Trials(
            teacher=self.teacher,
            batches=self._seen,
            outputs=self._outputs,
            spec=self.spec,
            progress=self.progress,
        )

    def _order(self) -> PruningOrder:
        spec, storage, some = self.spec, self._storage, self._some()
        loss = self._outputs.loss(spec.seed)
        if spec.score == "obs":
            return storage.obs_order(some, loss, spec.damping, self.progress)
        with storage.reading():
            if spec.score == "kprune":
                self.scores = kprune_scores(storage.student, some, loss, self.progress)
            elif spec.score == "fisher":
                method = GradientScore()
                self.scores = gradient_scores(storage.student, some, loss, method, self.progress)
            else:
                score = scorer(spec.score, spec.seed)
                self.scores = score(storage.student, some, self.progress)
        return order_of(self.scores)

    def _cut(self, step: Plan, batches: Batches, *, final: bool) -> None:
        self.plan = self.plan.then(step)
        self._storage.cut(step, self.plan, batches, final=final)

    def _some(self) -> Batches:
        return looked_at(self._seen, self.spec)

    def _check_storage(self) -> None:
        if not self._storage.in_memory and ("layers" in self.spec.removable or self.spec.trials):
            raise SpecError(
                "PruneSpec: units 'layers' and trials copy the model in memory, which this storage "
                f"cannot, found units {self.spec.removable} and trials {self.spec.trials}; leave "
                "them out"
            )

    def _check_finite(self) -> None:
        with self._storage.reading():
            outputs = map(self._expected, self._held or self._seen[:1])
            if all(bool(torch.isfinite(output).all()) for output in outputs):
                return
        raise CheckpointError(
            "the model's outputs must be finite, found NaN or Inf on the calibration data; "
            "repair or retrain the checkpoint"
        )
