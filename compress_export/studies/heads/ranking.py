"""Scores of heads, orders by them, and the plans that follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from compress.model.batches import Batches, Loss, label_loss, sampled_fisher_loss
from compress.model.layout import Layout
from compress.model.task_head import likelihood_of
from compress.plan.plan import EncoderShape, LayerPlan, Plan
from compress.saliency.scorers import GradientScore, gradient_scores
from compress.saliency.scores import Array
from compress_export.studies.grid import Row

__all__ = ["LossKind", "by_layer", "head_scores", "order_of", "plan_without", "scores_of"]

LossKind = Literal["mlm", "task", "self"]
"""Masked tokens; the task's labels; or labels that the model itself draws, whose squared gradients
are the curvature of KL(model ‖ itself): its first derivative is zero everywhere."""

_MICHEL = GradientScore(name="michel", reduction="sequence", power=1, labels="given")
_SELF = GradientScore(name="self", reduction="sequence", power=2, temperature=1.0)


def head_scores(layout: Layout, batches: Batches, kind: LossKind, seed: int) -> tuple[Array, ...]:
    """Importance of each layer's heads; of a shared layer (ALBERT), summed over its uses."""
    likelihood = likelihood_of(layout.model)
    drawn = sampled_fisher_loss(1.0, seed, likelihood=likelihood)
    loss: Loss = drawn if kind == "self" else label_loss
    return gradient_scores(layout, batches, loss, _SELF if kind == "self" else _MICHEL).heads


def by_layer(heads: Sequence[Array]) -> tuple[Array, ...]:
    """Each layer's scores divided by their l2 norm, as in the code of Michel et al. 2019."""
    return tuple(scores / (float(np.linalg.norm(scores)) + 1e-20) for scores in heads)


def plan_without(shape: EncoderShape, gone: Sequence[int]) -> Plan:
    """The plan that removes heads, counted through the layers."""
    starts = np.cumsum([0, *shape.n_heads]).tolist()
    lost = set(gone)
    layers = tuple(
        LayerPlan(
            source=i,
            heads=tuple(j for j in range(n) if starts[i] + j not in lost),
            neurons=tuple(range(shape.ffn_widths[i])),
        )
        for i, n in enumerate(shape.n_heads)
    )
    return Plan(shape=shape, layers=layers, depth=shape.depth)


def scores_of(importances: Sequence[Row], of: str, shape: EncoderShape) -> tuple[Array, ...]:
    """One importance as an array a layer."""
    rows = [row for row in importances if row["of"] == of]
    heads = [np.zeros(n) for n in shape.n_heads]
    for row in rows:
        heads[row["layer"]][row["head"]] = row["score"]
    return tuple(heads)


def order_of(heads: Sequence[Array]) -> tuple[int, ...]:
    """Heads from the least important on, counted through the layers."""
    return tuple(np.argsort(np.concatenate(heads), kind="stable").tolist())
