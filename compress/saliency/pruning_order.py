"""In which order the units of each sublayer are removed, and how the loss then increases.

Structured OBS orders the units itself; every other score gives each unit a value, and the units are
removed from the lowest value up. Knows layouts, data and losses; must not know prices or budgets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from compress.model.batches import Batches, Loss, Progress, silent
from compress.model.layout import Layout, Sublayer, SublayerName
from compress.saliency.obs import Removal, covariance, removal_order
from compress.saliency.scores import Scores
from compress.saliency.statistics import Moments, observe

__all__ = ["PruningOrder", "obs_order", "order_of", "removal_of"]

PruningOrder: TypeAlias = Callable[[int, SublayerName], Removal | None]
"""From a layer's index and a sublayer to the order of its units; `None` where it has no units."""


def obs_order(
    layout: Layout, batches: Batches, loss: Loss, damping: float, progress: Progress = silent
) -> PruningOrder:
    """By structured OBS (`compress.saliency.obs`): the other units take over what they can.

    Args:
        layout: The model.
        batches: Calibration data.
        loss: The loss whose squared gradients are a Fisher matrix of the outputs.
        damping: Damping of the inputs' covariance, relative to the mean of its diagonal.
        progress: Called after every batch.
    """
    statistics = observe(layout, batches, loss, progress)

    def order(index: int, sublayer: SublayerName) -> Removal | None:
        moments = statistics.moments.get((index, sublayer))
        if moments is None:
            return None
        of_layer: Sublayer = getattr(layout.layers[index], sublayer)
        return removal_of(of_layer, moments, statistics.sequences, damping)

    return order


def removal_of(sublayer: Sublayer, moments: Moments, sequences: int, damping: float) -> Removal:
    """The order of one sublayer's units by structured OBS.

    Args:
        sublayer: One that has units.
        moments: Second moments of its output projection.
        sequences: Number of sequences that the gradients are summed over.
        damping: Damping of the inputs' covariance, relative to the mean of its diagonal.
    """
    weight, bias = sublayer.projection
    assert weight is not None  # it has moments
    spread = covariance(moments.inputs, damping, centred=bias is not None)
    metric = moments.outputs.double() / max(sequences, 1)
    return removal_order(weight, spread, metric, sublayer.unit_width)


def order_of(scores: Scores) -> PruningOrder:
    """The order by which units with the lowest scores are removed first.

    The loss increase of removing several units is the sum of their scores.

    Args:
        scores: One value per head and per neuron.
    """

    def order(index: int, sublayer: SublayerName) -> Removal | None:
        values = scores.of(index, sublayer)
        if not len(values):
            return None
        lowest_first = np.argsort(-values, kind="stable")[::-1]
        increase = np.concatenate([[0.0], np.cumsum(values[lowest_first])])
        return Removal(order=lowest_first, loss_increase=increase)

    return order
