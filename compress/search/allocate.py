"""Scores × cost × budget → plan. Pure: no torch, no model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from compress.errors import BudgetError
from compress.plan.cost import CostModel
from compress.plan.plan import EncoderShape, LayerPlan, Plan, Unit
from compress.saliency.scores import Array, Scores

__all__ = [
    "allocate",
    "allocate_uniform",
    "smallest_cost",
    "smallest_uniform_cost",
]


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


def allocate_uniform(
    scores: Scores,
    shape: EncoderShape,
    cost: CostModel,
    budget: float,
    *,
    head_counts: tuple[int, ...],
    units: tuple[Unit, ...] = ("heads", "neurons"),
    multiple: int = 16,
) -> Plan:
    """The plan that keeps the most score within a budget, with the same sizes in every layer.

    Every head count is tried with the widest FFN that it leaves room for; each layer keeps its
    own best units.

    Args:
        scores: Of the model with that `shape`.
        shape: The model's; itself uniform.
        cost: What a unit costs.
        budget: The most that the plan may cost, in units of `cost`.
        head_counts: Those to choose from.
        units: What may be removed; other units all stay.
        multiple: The FFN width is a multiple of it, or whole.

    Returns:
        A plan that costs at most `budget`.

    Raises:
        BudgetError: Even the smallest plan costs more.
    """
    best: tuple[float, int, int] | None = None
    for n_heads, width in _uniform_sizes(shape, head_counts, units, multiple):
        if _uniform_cost(shape, cost, n_heads, width) <= budget:
            value = sum(_best(s, n_heads) for s in scores.heads)
            value += sum(_best(s, width) for s in scores.neurons)
            best = max(best, (value, n_heads, width)) if best else (value, n_heads, width)
    if best is None:
        least = smallest_uniform_cost(shape, cost, head_counts, units, multiple)
        raise BudgetError(
            f"the budget must be at least {least / cost.total(shape):.4f} of the encoder's "
            f"{cost.unit} when every layer keeps the same, found {budget / cost.total(shape):.4f}; "
            "raise it, or use the free layout"
        )
    _, n_heads, width = best
    layers = tuple(
        LayerPlan(
            source=i,
            heads=_highest(scores.heads[i], n_heads),
            neurons=_highest(scores.neurons[i], width),
        )
        for i in range(shape.n_layers)
    )
    return Plan(shape=shape, layers=layers, depth=shape.depth)


def smallest_uniform_cost(
    shape: EncoderShape,
    cost: CostModel,
    head_counts: tuple[int, ...],
    units: tuple[Unit, ...],
    multiple: int,
) -> int:
    """What the smallest uniform plan costs."""
    sizes = _uniform_sizes(shape, head_counts, units, multiple)
    return min(_uniform_cost(shape, cost, n_heads, width) for n_heads, width in sizes)


def _uniform_sizes(
    shape: EncoderShape, head_counts: tuple[int, ...], units: tuple[Unit, ...], multiple: int
) -> Iterator[tuple[int, int]]:
    most_heads, widest = min(shape.n_heads), min(shape.ffn_widths)
    counts = [n for n in head_counts if n <= most_heads] if "heads" in units else [most_heads]
    widths = [*range(multiple, widest, multiple), widest] if "neurons" in units else [widest]
    return product(counts, widths)


def _uniform_cost(shape: EncoderShape, cost: CostModel, n_heads: int, width: int) -> int:
    return cost.fixed(shape) + sum(
        n_heads * cost.head(shape, i) + width * cost.neuron(shape, i) for i in range(shape.n_layers)
    )


def _best(values: Array, count: int) -> float:
    """Sum of the `count` highest scores."""
    return float(np.sort(values)[::-1][:count].sum())


def _highest(values: Array, count: int) -> tuple[int, ...]:
    return tuple(sorted(int(i) for i in np.argsort(-values, kind="stable")[:count]))


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
    values: Array,
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
