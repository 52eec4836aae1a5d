"""What each layer could become: the options of a search, each with its cost and loss increase.

Knows shapes and prices; must not know how units are ranked, nor the budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compress.model.layout import SublayerName
from compress.plan.cost import Prices
from compress.plan.plan import EncoderShape, LayerPlan, Plan
from compress.saliency.obs import Removal
from compress.saliency.pruning_order import PruningOrder
from compress.search.knapsack import Item

__all__ = [
    "LayerOptions",
    "SearchUnit",
    "Weights",
    "allowed_counts",
    "encoder_options",
    "plan_of",
    "settled",
    "whole",
]

Array = NDArray[np.float64]

SearchUnit = Literal["heads", "neurons", "sublayers", "layers"]

Weights: TypeAlias = Mapping[tuple[int, SublayerName], float]
"""What a sublayer's loss increase counts beside the others', by layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SublayerOptions:
    """How many units of one sublayer may stay, and which ones then do.

    Attributes:
        counts: Numbers of units that may stay, rising: `(options,)`.
        removal: The order in which units are removed; `None` where none can be.
    """

    counts: NDArray[np.int64]
    removal: Removal | None

    @property
    def loss_increase(self) -> Array:
        """Of each option: `(options,)`."""
        if self.removal is None:
            return np.zeros(len(self.counts))
        return self.removal.loss_increase[len(self.removal.order) - self.counts]

    def increase_at(self, count: int) -> float:
        """The loss increase when `count` units stay."""
        if self.removal is None:
            return 0.0
        return float(self.removal.loss_increase[len(self.removal.order) - count])

    def keep(self, count: int) -> tuple[int, ...]:
        """The units that stay when `count` do."""
        if self.removal is None:
            return tuple(range(count))
        gone = len(self.removal.order) - count
        return tuple(sorted(int(unit) for unit in self.removal.order[gone:]))


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerOptions:
    """What one layer could become.

    Attributes:
        layer: Its place.
        uses: Number of times it is applied.
        attention, ffn: Options of its sublayers.
        drop_loss_increase: Loss increase of dropping it whole; infinite if it must stay.
    """

    layer: int
    uses: int
    attention: SublayerOptions
    ffn: SublayerOptions
    drop_loss_increase: float = np.inf

    def item(self, prices: Prices, weights: Weights) -> tuple[Item, list[tuple[int, int] | None]]:
        """Cost and loss increase of every pair of sizes worth having, and the pairs.

        `None` stands for the dropped layer. A pair is left out if another costs no more and does
        not increase the loss more.
        """
        uses = self.uses if prices.per_use else 1
        scale = [weights.get((self.layer, sublayer), 1.0) for sublayer in ("attention", "ffn")]
        pairs: list[tuple[int, int] | None] = list(
            product(self.attention.counts.tolist(), self.ffn.counts.tolist())
        )
        cost = np.add.outer(prices.attention[self.attention.counts], prices.ffn[self.ffn.counts])
        loss_increase = np.add.outer(
            scale[0] * self.attention.loss_increase, scale[1] * self.ffn.loss_increase
        )
        costs, loss_increases = uses * cost.ravel(), loss_increase.ravel()
        if np.isfinite(self.drop_loss_increase):
            pairs.append(None)
            costs = np.append(costs, 0.0)
            loss_increases = np.append(
                loss_increases, self.drop_loss_increase * float(np.mean(scale))
            )
        kept = _worth_having(costs, loss_increases)
        return Item(cost=costs[kept], loss_increase=loss_increases[kept]), [pairs[i] for i in kept]


def encoder_options(
    shape: EncoderShape,
    order: PruningOrder,
    *,
    units: tuple[SearchUnit, ...],
    round_to: int,
    drop_loss_increases: Mapping[int, float] | None = None,
) -> list[LayerOptions]:
    """What every layer of a model could become.

    Args:
        shape: The model's shape.
        order: The order in which the units of a sublayer are removed.
        units: What may be removed; `sublayers` allows to remove a whole attention or FFN.
        round_to: FFN widths are multiples of it, or stay as they are.
        drop_loss_increases: Loss increase by index of each layer that may be dropped whole.
    """
    whole, options = "sublayers" in units, []
    for index, (n_heads, width) in enumerate(zip(shape.n_heads, shape.ffn_widths, strict=True)):
        heads = allowed_counts(n_heads, 1, "heads" in units, whole)
        widths = allowed_counts(width, round_to, "neurons" in units, whole)
        options.append(
            LayerOptions(
                layer=index,
                uses=shape.uses[index],
                attention=_sublayer(index, "attention", heads, order),
                ffn=_sublayer(index, "ffn", widths, order),
                drop_loss_increase=(drop_loss_increases or {}).get(index, np.inf),
            )
        )
    return options


def settled(option: LayerOptions) -> LayerOptions:
    """The layer as it is, with nothing left to choose."""
    return replace(
        option, attention=whole(option.attention), ffn=whole(option.ffn), drop_loss_increase=np.inf
    )


def whole(sublayer: SublayerOptions) -> SublayerOptions:
    """The sublayer as it is, with nothing left to choose."""
    return SublayerOptions(counts=sublayer.counts[-1:], removal=None)


def plan_of(
    shape: EncoderShape, options: list[LayerOptions], chosen: list[tuple[int, int] | None]
) -> Plan:
    """The plan that keeps the chosen numbers of heads and neurons; `None` drops a layer."""
    layers = tuple(
        LayerPlan(
            source=option.layer,
            heads=option.attention.keep(sizes[0]),
            neurons=option.ffn.keep(sizes[1]),
        )
        for option, sizes in zip(options, chosen, strict=True)
        if sizes is not None
    )
    depth = shape.depth if shape.groups else len(layers)
    return Plan(shape=shape, layers=layers, depth=depth)


def _sublayer(
    index: int, sublayer: SublayerName, counts: NDArray[np.int64], order: PruningOrder
) -> SublayerOptions:
    removal = None if len(counts) == 1 else order(index, sublayer)
    return SublayerOptions(counts=counts[-1:] if removal is None else counts, removal=removal)


def allowed_counts(most: int, step: int, may_shrink: bool, may_vanish: bool) -> NDArray[np.int64]:
    """How many of `most` units may stay: all; fewer, in steps; none."""
    counts = {most}
    if may_shrink:
        counts |= set(range(step, most, step))
    if may_vanish:
        counts.add(0)
    return np.array(sorted(counts))


def _worth_having(costs: Array, loss_increases: Array) -> list[int]:
    """Options that none other beats in both cost and loss increase, cheapest first."""
    kept: list[int] = []
    least = np.inf
    for i in np.lexsort((loss_increases, costs)):
        if loss_increases[i] < least:
            kept.append(int(i))
            least = loss_increases[i]
    return kept
