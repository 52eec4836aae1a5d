"""Scores × cost × budget → plan. Pure: no torch, no model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from compress.cost import CostModel
from compress.errors import BudgetError
from compress.importance.scores import Scores
from compress.plan import EncoderShape, LayerPlan, Plan

__all__ = ["Unit", "allocate", "smallest_cost"]

Unit = Literal["heads", "neurons"]


@dataclass(frozen=True, slots=True)
class _Item:
    """A head, or a run of neurons of one layer, that is kept or removed as a whole."""

    density: float
    cost: int
    layer: int
    unit: Unit
    members: tuple[int, ...]


def allocate(
    scores: Scores,
    shape: EncoderShape,
    cost: CostModel,
    budget: float,
    *,
    units: tuple[Unit, ...] = ("heads", "neurons"),
    multiple: int = 16,
) -> Plan:
    """The plan that keeps the most score within a budget.

    Neurons are taken in runs of `multiple`, best first, so that a layer's values fall as runs are
    added; with values that fall, filling by value per cost is the best plan up to the one item
    that no longer fits (the fractional knapsack), and what is left over is filled by smaller ones.

    Args:
        scores: Of the model with that `shape`.
        shape: The model's.
        cost: What a unit costs.
        budget: The most that the plan may cost, in units of `cost`.
        units: What may be removed; other units all stay.
        multiple: FFN widths are multiples of it (a width that is none may stay whole).

    Returns:
        A plan that costs at most `budget`.

    Raises:
        BudgetError: Even the smallest plan costs more.
    """
    spent = smallest_cost(shape, cost, units)
    if spent > budget:
        raise BudgetError(
            f"the budget must be at least {spent / cost.total(shape):.4f} of the encoder's "
            f"{cost.unit} when only {' and '.join(units)} may go, "
            f"found {budget / cost.total(shape):.4f}; raise it, or prune more kinds of units"
        )
    kept: dict[tuple[Unit, int], list[int]] = {}
    full: set[tuple[Unit, int]] = set()
    for item in sorted(_items(scores, shape, cost, units, multiple), key=_best_first):
        place = (item.unit, item.layer)
        if place in full:
            continue  # a shorter, worse run in place of a better one would break the multiple
        if spent + item.cost > budget:
            full.add(place)
            continue
        spent += item.cost
        kept.setdefault(place, []).extend(item.members)
    return _plan(shape, units, kept)


def smallest_cost(shape: EncoderShape, cost: CostModel, units: tuple[Unit, ...]) -> int:
    """What the encoder costs with every unit of the kinds `units` removed."""
    total = cost.fixed(shape)
    for layer in range(shape.n_layers):
        if "heads" not in units:
            total += shape.n_heads[layer] * cost.head(shape, layer)
        if "neurons" not in units:
            total += shape.ffn_widths[layer] * cost.neuron(shape, layer)
    return total


def _items(
    scores: Scores, shape: EncoderShape, cost: CostModel, units: tuple[Unit, ...], multiple: int
) -> Iterable[_Item]:
    for layer in range(shape.n_layers):
        if "heads" in units:
            yield from _runs(scores.heads[layer], cost.head(shape, layer), layer, "heads", 1)
        if "neurons" in units:
            each = cost.neuron(shape, layer)
            yield from _runs(scores.neurons[layer], each, layer, "neurons", multiple)


def _runs(
    values: np.ndarray[tuple[int], np.dtype[np.float64]],
    each: int,
    layer: int,
    unit: Unit,
    length: int,
) -> Iterable[_Item]:
    """Units of one layer, best first, in runs of `length`."""
    order = np.argsort(-values, kind="stable")
    for start in range(0, len(order), length):
        members = order[start : start + length]
        cost = each * len(members)
        density = float(values[members].sum()) / cost
        yield _Item(density, cost, layer, unit, tuple(int(m) for m in members))


def _best_first(item: _Item) -> tuple[float, int, str, tuple[int, ...]]:
    return (-item.density, item.layer, item.unit, item.members)


def _plan(
    shape: EncoderShape, units: tuple[Unit, ...], kept: dict[tuple[Unit, int], list[int]]
) -> Plan:
    def survivors(unit: Unit, layer: int, count: int) -> tuple[int, ...]:
        if unit not in units:
            return tuple(range(count))
        return tuple(sorted(kept.get((unit, layer), ())))

    layers = tuple(
        LayerPlan(
            source=i,
            heads=survivors("heads", i, shape.n_heads[i]),
            neurons=survivors("neurons", i, shape.ffn_widths[i]),
        )
        for i in range(shape.n_layers)
    )
    return Plan(shape=shape, layers=layers, depth=shape.depth)
