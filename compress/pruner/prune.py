"""The arrow from a teacher to a student: score, allocate, cut, repair, over a schedule.

Each step scores the student as it then is, takes it one share further down, and repairs it
towards the unpruned model. Knows no task: data comes as batches.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from transformers import PreTrainedModel

from compress.errors import BudgetError, CheckpointError
from compress.model.batches import Batches, Progress, forward, frozen, n_sequences, n_tokens, silent
from compress.model.binding import bind
from compress.model.layout import Layout
from compress.model.surgery import apply_
from compress.plan.cost import CostModel
from compress.plan.plan import EncoderShape, Plan, Unit
from compress.plan.stock_config import stock_head_counts
from compress.repair.least_squares import repair_
from compress.saliency.scorers import GradientScore, ScoreName, Scores, scorer
from compress.search.allocate import (
    allocate,
    allocate_uniform,
    smallest_cost,
    smallest_uniform_cost,
)
from compress.search.depth import DepthStrategy, drop_layers
from compress.search.reachable import check_enough
from compress.validation import above, at_least, share, validate

__all__ = [
    "PlanLayout",
    "PruneSpec",
    "Pruned",
    "allocate_step",
    "budgets",
    "check_budget",
    "check_calibration",
    "check_finite",
    "predict",
    "prune",
    "schedule",
]


PlanLayout = Literal["free", "uniform"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneSpec:
    """How to prune.

    Attributes:
        share: What the student may cost, as a share of the teacher's encoder; above 0, at most 1.
        cost: What is counted, and at what sequence length.
        score: How units are scored.
        steps: Number of times that units are scored again; shares fall geometrically.
        repair: Refit the output projections after each step.
        damping: Of the repair, relative.
        units: What may be removed.
        layout: `free`, or `uniform` for the same heads and width in every layer. Plain
            `from_pretrained` takes a uniform student where the family's config names the head
            width (`Architecture.head_keys`), and elsewhere if no heads may go.
        multiple: FFN widths are multiples of it.
        drop: Layers to drop first, before any head or neuron.
        strategy: Which layers.
        seed: Of sampling and of chance.
    """

    share: float
    cost: CostModel = field(default_factory=lambda: CostModel(unit="macs"))
    score: ScoreName | GradientScore = "fisher"
    steps: int = 6
    repair: bool = True
    damping: float = 0.001
    units: tuple[Unit, ...] = ("heads", "neurons")
    layout: PlanLayout = "free"
    multiple: int = 16
    drop: int = 0
    strategy: DepthStrategy = "top"
    seed: int = 0

    def __post_init__(self) -> None:
        validate(
            self,
            share=share(),
            steps=at_least(1),
            damping=above(0),
            multiple=at_least(1),
            drop=at_least(0),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """A student, the plan that made it, and the scores of the last step."""

    model: PreTrainedModel
    plan: Plan
    scores: Scores | None


def prune(
    model: PreTrainedModel, batches: Batches, spec: PruneSpec, progress: Progress = silent
) -> Pruned:
    """Prune a copy of `model`; the model itself is left as it is.

    Args:
        model: A fine-tuned encoder of a supported family.
        batches: Calibration data, a few hundred to a few thousand sequences. Labels are read only
            by scores that ask for given ones.
        spec: Target and method.
        progress: Told how far each step is.

    Returns:
        The student in evaluation mode, with its plan.

    Raises:
        BudgetError: The share cannot be reached.
        UnsupportedArchitectureError, LayoutError: The model is of no supported shape.
        CheckpointError: The model's logits are not finite on the calibration data.
    """
    teacher = bind(model)
    check_budget(teacher, spec)
    check_calibration(teacher, batches, spec)
    plan = drop_layers(teacher, spec.drop, spec.strategy, batches, progress)
    student = _student(teacher, plan, batches, spec, progress)
    scores: Scores | None = None
    for budget in budgets(teacher, plan.student_shape, spec):
        scores = scorer(spec.score, spec.seed)(student, batches, progress)
        step = allocate_step(scores, student, teacher, spec, budget)
        apply_(student.model, step)
        plan = plan.then(step)
        student = bind(student.model)
        _repair(student, teacher, plan, batches, spec, progress)
    return Pruned(model=student.model.eval(), plan=plan, scores=scores)


def predict(model: PreTrainedModel, spec: PruneSpec) -> tuple[int, list[int]]:
    """What the teacher costs, and the most that the student will after each step.

    Both are in units of `spec.cost`; no data is looked at and no weight moves.
    """
    layout = bind(model)
    check_budget(layout, spec)
    shape = _after_drop(layout, spec)
    steps = budgets(layout, shape, spec) or (spec.cost.total(shape),)
    return spec.cost.total(layout.shape), [math.floor(step) for step in steps]


def check_budget(teacher: Layout, spec: PruneSpec) -> None:
    """Refuse a share that no plan can reach.

    Raises:
        BudgetError: The share is below the smallest reachable, or a uniform student is asked for
            of a model whose layers differ.
    """
    total = spec.cost.total(teacher.shape)
    shape = _after_drop(teacher, spec)
    if spec.layout == "uniform" and not _is_uniform(shape):
        raise BudgetError(
            "`layout` 'uniform' needs a model whose layers are alike, found heads "
            f"{shape.n_heads} and FFN widths {shape.ffn_widths}; use 'free', or the unpruned model"
        )
    least = _smallest(teacher, shape, spec)
    if least > spec.share * total:
        raise BudgetError(
            f"the share of {spec.cost.unit} must be at least {least / total:.4f}, the smallest "
            f"that removing {' and '.join(spec.units) or 'nothing'} can reach, found "
            f"{spec.share:g}; raise it, prune more kinds of units, or drop layers"
        )


def schedule(share: float, steps: int, start: float = 1.0) -> tuple[float, ...]:
    """Shares that fall geometrically from `start` to `share` in `steps` steps.

    Example:
        >>> [round(s, 3) for s in schedule(0.5, 2)]
        [0.707, 0.5]
    """
    return tuple(start * (share / start) ** (step / steps) for step in range(1, steps + 1))


def allocate_step(
    scores: Scores, student: Layout, teacher: Layout, spec: PruneSpec, budget: float
) -> Plan:
    """The student's plan for the next step, by its scores and what the step may cost."""
    if spec.layout == "free":
        return allocate(
            scores, student.shape, spec.cost, budget, units=spec.units, multiple=spec.multiple
        )
    return allocate_uniform(
        scores,
        student.shape,
        spec.cost,
        budget,
        head_counts=_head_counts(teacher),
        units=spec.units,
        multiple=spec.multiple,
    )


def _head_counts(teacher: Layout) -> tuple[int, ...]:
    """Uniform head counts to choose from: those that a stock config can say, or all."""
    if teacher.architecture.head_keys:
        return stock_head_counts(teacher.architecture, teacher.shape)
    return tuple(range(1, max(teacher.shape.n_heads) + 1))


def _is_uniform(shape: EncoderShape) -> bool:
    return len(set(shape.n_heads)) == len(set(shape.ffn_widths)) == 1 and shape.n_heads[0] > 0


def _smallest(teacher: Layout, shape: EncoderShape, spec: PruneSpec) -> int:
    """The cost of the smallest encoder that is still one: a single head or run of neurons."""
    if not spec.units:
        return spec.cost.total(shape)
    if spec.layout == "uniform":
        counts = _head_counts(teacher)
        return smallest_uniform_cost(shape, spec.cost, counts, spec.units, spec.multiple)
    run = min(spec.multiple, max(shape.ffn_widths))
    prices = {
        "heads": min(spec.cost.head(shape, i) for i in range(shape.n_layers)),
        "neurons": run * min(spec.cost.neuron(shape, i) for i in range(shape.n_layers)),
    }
    return smallest_cost(shape, spec.cost, spec.units) + min(prices[unit] for unit in spec.units)


def _after_drop(teacher: Layout, spec: PruneSpec) -> EncoderShape:
    """The shape once layers are dropped; strategies that look at data drop as many as `top`."""
    by_data = spec.strategy in ("contribution", "leave-one-out")
    return drop_layers(teacher, spec.drop, "top" if by_data else spec.strategy).student_shape


def _student(
    teacher: Layout, plan: Plan, batches: Batches, spec: PruneSpec, progress: Progress
) -> Layout:
    model = copy.deepcopy(teacher.model)
    if plan == Plan.full(teacher.shape):
        return bind(model)
    apply_(model, plan)
    student = bind(model)
    _repair(student, teacher, plan, batches, spec, progress)
    return student


def budgets(teacher: Layout, shape: EncoderShape, spec: PruneSpec) -> tuple[float, ...]:
    """What each step may cost; none where dropping layers has met the target, or nothing is cut."""
    total = spec.cost.total(teacher.shape)
    now = spec.cost.total(shape) / total
    if not spec.units or now <= spec.share:
        return ()
    return tuple(share * total for share in schedule(spec.share, spec.steps, now))


def _repair(
    student: Layout,
    teacher: Layout,
    plan: Plan,
    batches: Batches,
    spec: PruneSpec,
    progress: Progress,
) -> None:
    if spec.repair:
        repair_(student, teacher, plan, batches, damping=spec.damping, progress=progress)


def check_calibration(teacher: Layout, batches: Batches, spec: PruneSpec) -> None:
    """Refuse calibration data that a repair cannot be fitted on, and a model that gives no numbers.

    Raises:
        DataError: There are too few tokens for the least squares of the repair.
        CheckpointError: See `check_finite`.
    """
    check_finite(teacher, batches)
    if spec.repair:
        check_enough(teacher.shape, sum(map(n_tokens, batches)), sum(map(n_sequences, batches)))


def check_finite(teacher: Layout, batches: Batches) -> None:
    """Refuse a model that gives no numbers.

    Raises:
        CheckpointError: There is no data, or the logits of the first batch are not finite.
    """
    if not batches:
        raise CheckpointError("calibration needs at least one batch, found none; give it data")
    with frozen(teacher.model), torch.no_grad():
        logits = forward(teacher.model, batches[0])
    if not bool(torch.isfinite(logits).all()):
        raise CheckpointError(
            "the model's logits must be finite, found NaN or Inf on the first calibration batch; "
            "repair or retrain the checkpoint"
        )
