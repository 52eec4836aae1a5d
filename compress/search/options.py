"""What each layer could become: the options of a search, each with its cost and loss increase.

Knows layouts and prices; must not know how units are ranked, nor the budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compress.model.layout import LayerLayout, Layout, Sublayer
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
]

Array = NDArray[np.float64]

SearchUnit = Literal["heads", "neurons", "sublayers", "layers"]

Weights: TypeAlias = Mapping[tuple[int, Sublayer], float]
"""What a sublayer's loss increase counts beside the others', by layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SublayerOptions:
    """How many units of one sublayer may stay, and which ones then do.

    Attributes:
        counts: That may stay, rising: `(options,)`.
        removal: In which order they go; `None` where none can.
    """

    counts: NDArray[np.int64]
    removal: Removal | None

    @property
    def loss_increase(self) -> Array:
        """Of each option: `(options,)`."""
        if self.removal is None:
            return np.zeros(len(self.counts))
        return self.removal.loss_increase[len(self.removal.order) - self.counts]

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
        uses: How often it is applied.
        attention, ffn: Options of its sublayers.
        drop_loss_increase: Of dropping it whole; infinite where that is not allowed.
    """

    layer: int
    uses: int
    attention: SublayerOptions
    ffn: SublayerOptions
    drop_loss_increase: float = np.inf

    def item(self, prices: Prices, weights: Weights) -> tuple[Item, list[tuple[int, int] | None]]:
        """Cost and loss increase of every pair of sizes worth having, and the pairs.

        `None` stands for the dropped layer. A pair is left out if another costs no more and does
        no more loss increase.
        """
        scale = [weights.get((self.layer, sublayer), 1.0) for sublayer in ("attention", "ffn")]
        pairs: list[tuple[int, int] | None] = list(
            product(self.attention.counts.tolist(), self.ffn.counts.tolist())
        )
        cost = np.add.outer(prices.attention[self.attention.counts], prices.ffn[self.ffn.counts])
        loss_increase = np.add.outer(
            scale[0] * self.attention.loss_increase, scale[1] * self.ffn.loss_increase
        )
        costs, loss_increases = self.uses * cost.ravel(), loss_increase.ravel()
        if np.isfinite(self.drop_loss_increase):
            pairs.append(None)
            costs = np.append(costs, 0.0)
            loss_increases = np.append(
                loss_increases, self.drop_loss_increase * float(np.mean(scale))
            )
        kept = _worth_having(costs, loss_increases)
        return Item(cost=costs[kept], loss_increase=loss_increases[kept]), [pairs[i] for i in kept]


def encoder_options(
    layout: Layout,
    rank: PruningOrder,
    *,
    units: tuple[SearchUnit, ...],
    multiple: int,
    drop_loss_increases: Mapping[int, float],
) -> list[LayerOptions]:
    """What every layer of a model could become.

    Args:
        layout: The model.
        rank: In which order the units of a sublayer go.
        units: What may go; `sublayers` lets a whole attention or FFN go.
        multiple: FFN widths are multiples of it, or whole.
        drop_loss_increases: Of the layers that may be dropped whole.
    """
    options = []
    for layer in layout.layers:
        whole = "sublayers" in units
        heads = allowed_counts(layer.n_heads, 1, "heads" in units, whole)
        widths = allowed_counts(layer.ffn_width, multiple, "neurons" in units, whole)
        options.append(
            LayerOptions(
                layer=layer.index,
                uses=layout.shape.uses[layer.index],
                attention=_sublayer(layer, "attention", heads, rank),
                ffn=_sublayer(layer, "ffn", widths, rank),
                drop_loss_increase=drop_loss_increases.get(layer.index, np.inf),
            )
        )
    return options


def settled(option: LayerOptions) -> LayerOptions:
    """The layer as it is, with nothing left to choose."""
    attention, ffn = (
        SublayerOptions(counts=sublayer.counts[-1:], removal=None)
        for sublayer in (option.attention, option.ffn)
    )
    return replace(option, attention=attention, ffn=ffn, drop_loss_increase=np.inf)


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
    layer: LayerLayout, sublayer: Sublayer, counts: NDArray[np.int64], rank: PruningOrder
) -> SublayerOptions:
    removal = None if len(counts) == 1 else rank(layer, sublayer)
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
