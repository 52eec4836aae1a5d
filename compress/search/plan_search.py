"""From options to a plan within a budget: dynamic programming, and a search over error weights.

Second-order estimates of loss increase say well which units of a sublayer go first, and less well
how sublayers compare. So each sublayer's loss increase gets a weight, and the weights are found by
random local search on what the plan really does to calibration data (SPDY, Frantar and Alistarh
2022, arXiv 2201.13096, section 3.2). Knows models through the given judge alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from compress.errors import BudgetError
from compress.model.batches import Progress, silent
from compress.model.layout import SUBLAYERS
from compress.plan.cost import Prices
from compress.plan.plan import UNITS, EncoderShape, Plan, Unit
from compress.saliency.pruning_order import order_of
from compress.saliency.scores import Scores
from compress.search.knapsack import Item, choose
from compress.search.options import LayerOptions, Weights, encoder_options, plan_of, whole

__all__ = ["Judge", "Problem", "plan_by_scores", "plan_within", "search"]

Judge: TypeAlias = Callable[[Plan], float]
"""What a plan does to calibration data; less is better."""

Pair: TypeAlias = tuple[int, int] | None

_SPREAD = 0.6
_CHANGED = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What a plan is looked for.

    Attributes:
        shape: Shape of the model that the plan is for.
        options: Options of its layers.
        prices: What sizes cost.
        budget: The most that the whole encoder may cost.
    """

    shape: EncoderShape
    options: list[LayerOptions]
    prices: Prices
    budget: float


def plan_within(problem: Problem, weights: Weights) -> Plan:
    """The plan of least weighted loss increase within the budget.

    Raises:
        BudgetError: No plan is that cheap.
    """
    items, pairs = _items(problem, weights)
    left = problem.budget - problem.prices.fixed
    picks = choose(items, left)
    if picks is None:
        least = problem.prices.fixed + sum(float(item.cost.min()) for item in items)
        raise BudgetError(
            f"the budget must be at least {least:.4g} {problem.prices.unit}, the cheapest plan "
            f"within `units`, found {problem.budget:.4g}; ask for less, or let more go"
        )
    return plan_of(problem.shape, problem.options, _chosen(pairs, picks))


def plan_by_scores(
    scores: Scores,
    shape: EncoderShape,
    prices: Prices,
    budget: float,
    *,
    units: tuple[Unit, ...] = UNITS,
    round_to: int = 16,
) -> Plan:
    """The plan that keeps the highest total score within a budget.

    Args:
        scores: One value per head and per neuron.
        shape: The model's shape.
        prices: What sizes cost.
        budget: The most that the encoder may cost, in the unit of `prices`.
        units: What may be removed, down to none in a layer.
        round_to: FFN widths are multiples of it, or stay as they are.

    Raises:
        BudgetError: No plan is that cheap.
    """
    options = encoder_options(
        shape, order_of(scores), units=(*units, "sublayers"), round_to=round_to
    )
    if "heads" not in units:
        options = [replace(option, attention=whole(option.attention)) for option in options]
    if "neurons" not in units:
        options = [replace(option, ffn=whole(option.ffn)) for option in options]
    problem = Problem(shape=shape, options=options, prices=prices, budget=budget)
    return plan_within(problem, {})


def search(
    problem: Problem, judge: Judge, trials: int, seed: int = 0, progress: Progress = silent
) -> Plan:
    """The best plan that `trials` random changes of the weights lead to.

    Args:
        problem: Options, prices and budget.
        judge: Tried on every plan that is new.
        trials: Changes to try.
        seed: Seed of the changes.
        progress: Called after every trial.

    Raises:
        BudgetError: No plan is that cheap.
    """
    generator = np.random.default_rng(seed)
    places = [(option.layer, sublayer) for option in problem.options for sublayer in SUBLAYERS]
    logs = np.zeros(len(places))
    best = plan_within(problem, {})
    judged = {best: judge(best)}
    for trial in range(1, trials + 1):
        moved = generator.random(len(places)) < _CHANGED
        tried = logs + moved * generator.normal(0.0, _SPREAD, len(places))
        plan = plan_within(problem, dict(zip(places, np.exp(tried).tolist(), strict=True)))
        if plan not in judged:
            judged[plan] = judge(plan)
        if judged[plan] < judged[best]:
            best, logs = plan, tried
        progress("search", trial, trials)
    return best


def _items(problem: Problem, weights: Weights) -> tuple[list[Item], list[list[Pair]]]:
    found = [option.item(problem.prices, weights) for option in problem.options]
    return [item for item, _ in found], [pairs for _, pairs in found]


def _chosen(pairs: list[list[Pair]], picks: list[int]) -> list[Pair]:
    return [of_layer[pick] for of_layer, pick in zip(pairs, picks, strict=True)]
