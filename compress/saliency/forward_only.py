"""Scores that need no gradient: weight magnitude, activation norm, chance."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor

from compress.model.batches import Batches, Progress, forward, frozen, n_tokens, silent, token_mask
from compress.model.hooks import Hook, hooked
from compress.model.layout import Layout, Sublayer
from compress.model.surgery import sum_by_unit
from compress.saliency.scores import Array, Scores

__all__ = ["activation_scores", "magnitude_scores", "random_scores"]


def magnitude_scores(layout: Layout) -> Scores:
    """Score a unit by the sum of its squared weights, over every projection it owns."""
    heads = tuple(_energy(layer.attention) for layer in layout.layers)
    neurons = tuple(_energy(layer.ffn) for layer in layout.layers)
    return Scores(kind="magnitude", heads=heads, neurons=neurons)


def random_scores(layout: Layout, seed: int = 0) -> Scores:
    """Score every unit by chance times its weights: the baseline that every score must beat.

    Without the factor a head, which costs a hundred neurons, would never be worth its place.
    """
    generator = np.random.default_rng(seed)
    shape = layout.shape
    heads = tuple(generator.random(n) * shape.head_weights for n in shape.n_heads)
    neurons = tuple(generator.random(n) * shape.neuron_weights for n in shape.ffn_widths)
    return Scores(kind="random", heads=heads, neurons=neurons)


def activation_scores(layout: Layout, batches: Batches, progress: Progress = silent) -> Scores:
    """Score a unit by the energy it puts into its sublayer's output, padding left out.

    ``E_tokens[Σ_i a_i² · mean_j W_ji²]`` over the unit's dimensions i: the representational
    part of K-prune (Park et al. 2024). Forward passes only, no labels.

    Args:
        layout: The model.
        batches: Calibration data.
        progress: Called after every batch.
    """
    shape = layout.shape
    heads = [torch.zeros(n * shape.head_width, dtype=torch.float64) for n in shape.n_heads]
    neurons = [torch.zeros(n, dtype=torch.float64) for n in shape.ffn_widths]
    mask: list[Tensor] = []
    with frozen(layout.model), torch.no_grad(), ExitStack() as stack:
        for layer in layout.layers:
            stack.enter_context(hooked(layer, "heads", _add_squares(heads[layer.index], mask)))
            stack.enter_context(hooked(layer, "neurons", _add_squares(neurons[layer.index], mask)))
        for done, batch in enumerate(batches, start=1):
            mask[:] = [token_mask(batch, layout.model.device)]
            forward(layout.model, batch)
            progress("scoring (activation)", done, len(batches))
    tokens = max(sum(map(n_tokens, batches)), 1)
    energies = [
        (
            _weighted(heads[layer.index] / tokens, layer.attention),
            _weighted(neurons[layer.index] / tokens, layer.ffn),
        )
        for layer in layout.layers
    ]
    return Scores(
        kind="activation",
        heads=tuple(h.reshape(-1, shape.head_width).sum(1) for h, _ in energies),
        neurons=tuple(n for _, n in energies),
        examples=sum(len(batch["input_ids"]) for batch in batches),
    )


def _energy(sublayer: Sublayer) -> Array:
    """Sum of the squared weights of each unit."""
    count = sublayer.n_units
    energy = np.zeros(count)
    for bound in sublayer.slots:
        weight = bound.weight.detach().double().square()
        rows = weight.movedim(bound.slot.axis, 0)
        squares = rows.reshape(len(rows), -1).sum(1).cpu()
        energy += sum_by_unit(squares, bound.width, count, bound.slot).numpy()
    return energy


def _add_squares(sums: Tensor, mask: list[Tensor]) -> Hook:
    def add(activation: Tensor) -> None:
        sums.add_(activation[mask[0]].square().sum(0, dtype=torch.float64).cpu())

    return add


def _weighted(squares: Tensor, sublayer: Sublayer) -> Array:
    """Mean squares per input times the projection's mean squared weight: `(inputs,)`."""
    weight, _ = sublayer.projection
    if weight is None:
        return np.zeros(0)
    scores: Array = (squares * weight.detach().double().square().mean(0).cpu()).numpy()
    return scores
