"""How much each head and neuron matters: one function per kind of score, one table of names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

from compress.model.batches import Batches, Progress, label_loss, sampled_fisher_loss, silent
from compress.model.layout import Layout
from compress.model.task_head import likelihood_of
from compress.saliency.forward_only import activation_scores, magnitude_scores, random_scores
from compress.saliency.gradient import GradientScore, gradient_scores
from compress.saliency.scores import Scores

__all__ = [
    "SCORE_NAMES",
    "GradientScore",
    "ScoreName",
    "Scorer",
    "Scores",
    "activation_scores",
    "gradient_scores",
    "magnitude_scores",
    "random_scores",
    "scorer",
]

ScoreName = Literal["fisher", "michel", "magnitude", "activation", "random"]
SCORE_NAMES: tuple[ScoreName, ...] = get_args(ScoreName)

Scorer: TypeAlias = Callable[[Layout, Batches, Progress], Scores]


def scorer(method: GradientScore | ScoreName, seed: int = 0) -> Scorer:
    """The function that scores a model by `method`.

    Args:
        method: A name with the field's usual settings, or a `GradientScore` with one's own.
            `fisher` squares per-sequence gradients of sampled labels; `michel` takes absolute
            per-token gradients of the given labels, normalised per layer.
        seed: Of sampling and of chance.
    """
    match method:
        case GradientScore():
            return lambda layout, batches, progress: _gradient(layout, batches, method, progress)
        case "fisher":
            return scorer(GradientScore(seed=seed))
        case "michel":
            return scorer(
                GradientScore(
                    name="michel", reduction="token", power=1, labels="given", layer_norm=True
                )
            )
        case "magnitude":
            return lambda layout, _, __: magnitude_scores(layout)
        case "activation":
            return activation_scores
        case "random":
            return lambda layout, _, __: random_scores(layout, seed)


def _gradient(
    layout: Layout, batches: Batches, method: GradientScore, progress: Progress = silent
) -> Scores:
    sampled = method.labels == "sampled"
    loss = (
        sampled_fisher_loss(method.temperature, method.seed, likelihood=likelihood_of(layout.model))
        if sampled
        else label_loss
    )
    return gradient_scores(layout, batches, loss, method, progress)
