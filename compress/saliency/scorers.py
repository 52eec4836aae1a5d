"""How much each head and neuron matters: one function per kind of score, one table of names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

from compress.model.batches import (
    Batches,
    Loss,
    Progress,
    label_loss,
    sampled_fisher_loss,
    silent,
)
from compress.model.layout import Layout
from compress.model.task_head import likelihood_of
from compress.saliency.forward_only import activation_scores, magnitude_scores, random_scores
from compress.saliency.gradient import GradientScore, gradient_scores
from compress.saliency.scores import Array, Scores

__all__ = [
    "SCORE_NAMES",
    "GradientScore",
    "ScoreName",
    "Scorer",
    "Scores",
    "activation_scores",
    "gradient_scores",
    "kprune_scores",
    "magnitude_scores",
    "random_scores",
    "scorer",
]

ScoreName = Literal["fisher", "michel", "magnitude", "activation", "random"]
SCORE_NAMES: tuple[ScoreName, ...] = get_args(ScoreName)

REPRESENTATION = 2.5e-4
"""λ of the representational part, beside 1 for the predictive one (K-prune's published default)."""

Values: TypeAlias = tuple[Array, ...]
"""One array per layer, one value per unit."""

Scorer: TypeAlias = Callable[[Layout, Batches, Progress], Scores]


def scorer(method: GradientScore | ScoreName, seed: int = 0) -> Scorer:
    """The function that scores a model by `method`.

    Args:
        method: A name with the field's usual settings, or a `GradientScore` with one's own.
            `fisher` squares per-sequence gradients of sampled labels; `michel` takes absolute
            per-token gradients of the given labels, normalised per layer.
        seed: Seed of sampled labels and of random scores.
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


def kprune_scores(
    layout: Layout, batches: Batches, loss: Loss, progress: Progress = silent
) -> Scores:
    """K-prune's predictive and representational knowledge (Park et al. 2024, ICLR, KPMS).

    The published predictive part is a squared gradient of a divergence that is zero at the model
    itself; here labels are drawn from the model, which gives the Fisher information that the
    divergence approximates. Its unit is nats for heads and neurons alike, and a head's energy is a
    sum over its dimensions, where the published one is a mean: so heads need no weight of their own
    (μ, 64 by default).

    Args:
        layout: The model.
        batches: Calibration data.
        loss: Negative log-likelihood of drawn labels, summed over the batch.
        progress: Called after every batch.
    """
    method = GradientScore(name="kprune", reduction="sequence", power=2)
    predictive = gradient_scores(layout, batches, loss, method, progress)
    representing = activation_scores(layout, batches, progress)

    def combined(of_outputs: Values, of_states: Values) -> Values:
        pairs = zip(of_outputs, of_states, strict=True)
        return tuple(outputs / 2 + REPRESENTATION * states for outputs, states in pairs)

    return Scores(
        kind="kprune",
        heads=combined(predictive.heads, representing.heads),
        neurons=combined(predictive.neurons, representing.neurons),
        examples=predictive.examples,
    )


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
