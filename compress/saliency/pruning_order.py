"""In which order the units of each sublayer go, and at what loss increase: by OBS, or by K-prune.

Knows layouts, data and losses; must not know prices or budgets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from compress.model.batches import Batches, Loss, Progress, silent
from compress.model.layout import LayerLayout, Layout, Sublayer
from compress.saliency.obs import Removal, covariance, removal_order
from compress.saliency.scorers import GradientScore, activation_scores, gradient_scores
from compress.saliency.statistics import Moments, observe

__all__ = ["PruningOrder", "RankingName", "kprune_order", "obs_order", "removal_of"]

RankingName = Literal["obs", "kprune"]

PruningOrder: TypeAlias = Callable[[LayerLayout, Sublayer], Removal | None]
"""The order in which a sublayer's units go; `None` where it has none, or no use for an order."""

REPRESENTATION = 2.5e-4
"""λ of the representational part, beside 1 for the predictive one (K-prune's published default)."""


def obs_order(
    layout: Layout, batches: Batches, loss: Loss, damping: float, progress: Progress = silent
) -> PruningOrder:
    """By structured OBS (`compress.saliency.obs`): the other units take over what they can.

    Args:
        layout: The model.
        batches: Calibration data.
        loss: Whose squared gradients are a Fisher matrix of the outputs.
        damping: Of the inputs' covariance, relative.
        progress: Told after every batch.
    """
    statistics = observe(layout, batches, loss, progress)

    def rank(layer: LayerLayout, sublayer: Sublayer) -> Removal | None:
        found = statistics.attention if sublayer == "attention" else statistics.ffn
        moments = found.get(layer.index)
        if moments is None:
            return None
        return removal_of(layer, sublayer, layout, moments, statistics.sequences, damping)

    return rank


def removal_of(
    layer: LayerLayout,
    sublayer: Sublayer,
    layout: Layout,
    moments: Moments,
    sequences: int,
    damping: float,
) -> Removal:
    """The order of one sublayer's units by structured OBS.

    Args:
        layer: That it is of.
        sublayer: With units.
        layout: Of the model.
        moments: Of its output projection.
        sequences: That the gradients are sums over.
        damping: Of the inputs' covariance, relative.
    """
    weight, bias = layer.projection(sublayer)
    assert weight is not None  # it has moments
    spread = covariance(moments.inputs, damping, centred=bias is not None)
    metric = moments.outputs.double() / max(sequences, 1)
    width = layout.shape.head_width if sublayer == "attention" else 1
    return removal_order(weight, spread, metric, width)


def kprune_order(
    layout: Layout, batches: Batches, loss: Loss, progress: Progress = silent
) -> PruningOrder:
    """By K-prune's predictive and representational knowledge (Park et al. 2024, ICLR, KPMS).

    The published predictive part is a squared gradient of a divergence that is nil at the model
    itself; here labels are drawn from the model, which gives the Fisher information it stands for.
    That is in nats for heads and neurons alike, and a head's energy is a sum over its dimensions,
    where the published one is a mean: so heads need no weight of their own (μ, 64 by default).

    Args:
        layout: The model.
        batches: Calibration data.
        loss: Negative log-likelihood of drawn labels, summed over the batch.
        progress: Told after every batch.
    """
    method = GradientScore(name="kprune", reduction="sequence", power=2)
    predictive = gradient_scores(layout, batches, loss, method, progress)
    representing = activation_scores(layout, batches, progress)

    def rank(layer: LayerLayout, sublayer: Sublayer) -> Removal | None:
        pick = "heads" if sublayer == "attention" else "neurons"
        of_outputs, of_states = (
            getattr(scores, pick)[layer.index] for scores in (predictive, representing)
        )
        if not len(of_outputs):
            return None
        knowledge = of_outputs / 2 + REPRESENTATION * of_states
        order = np.argsort(knowledge, kind="stable")
        return Removal(
            order=order, loss_increase=np.concatenate([[0.0], np.cumsum(knowledge[order])])
        )

    return rank
