"""Scores that need no gradient: weight magnitude, activation norm, chance."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.architectures import Slot
from compress.batches import Batches, Progress, forward, frozen, n_tokens, silent
from compress.importance.scores import Array, Scores
from compress.layout import LayerLayout, Layout, child
from compress.surgery import unit_indices

__all__ = ["activation_scores", "magnitude_scores", "random_scores"]


def magnitude_scores(layout: Layout) -> Scores:
    """Score a unit by the sum of its squared weights, over every projection it owns."""
    width = layout.shape.head_width
    heads = tuple(_energy(layer, "heads", layer.n_heads, width) for layer in layout.layers)
    neurons = tuple(_energy(layer, "ffn", layer.ffn_width, 1) for layer in layout.layers)
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
        progress: Told after every batch.
    """
    sums = {
        id(module): torch.zeros(columns, dtype=torch.float64)
        for layer in layout.layers
        for module, columns in (
            (layer.heads_out, layer.n_heads * layout.shape.head_width),
            (layer.ffn_out, layer.ffn_width),
        )
    }
    mask: list[Tensor] = []
    with frozen(layout.model), torch.no_grad(), ExitStack() as stack:
        for layer in layout.layers:
            for module in (layer.heads_out, layer.ffn_out):
                handle = module.register_forward_pre_hook(_add_squares(sums[id(module)], mask))
                stack.callback(handle.remove)
        for done, batch in enumerate(batches, start=1):
            mask[:] = [batch["attention_mask"].to(layout.model.device)]
            forward(layout.model, batch)
            progress("scoring (activation)", done, len(batches))
    tokens = max(sum(map(n_tokens, batches)), 1)
    return Scores(
        kind="activation",
        heads=tuple(
            _per_head(sums[id(layer.heads_out)] / tokens, layer, layout.shape.head_width)
            for layer in layout.layers
        ),
        neurons=tuple(
            _weighted(sums[id(layer.ffn_out)] / tokens, layer.ffn_out) for layer in layout.layers
        ),
        examples=sum(len(batch["input_ids"]) for batch in batches),
    )


def _energy(layer: LayerLayout, sublayer: str, count: int, width: int) -> Array:
    energy = np.zeros(count)
    if not count:
        return energy
    architecture = layer.architecture
    slots: tuple[Slot, ...] = (
        (*architecture.heads_in, architecture.heads_out)
        if sublayer == "heads"
        else (*architecture.ffn_in, architecture.ffn_out)
    )
    for slot in slots:
        weight = child(layer.module, slot.path).weight
        assert isinstance(weight, Tensor)
        squares = weight.detach().double().square().movedim(slot.axis, 0).flatten(1).sum(1).cpu()
        order = [unit_indices((unit,), width, count, slot) for unit in range(count)]
        energy += np.array([float(squares[index].sum()) for index in order])
    return energy


def _add_squares(sums: Tensor, mask: list[Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
        if len(sums):
            real = args[0][mask[0].bool()]
            sums.add_(real.square().sum(0, dtype=torch.float64).cpu())

    return hook


def _weighted(squares: Tensor, module: nn.Module) -> Array:
    """Mean squares per input times the projection's mean squared weight: `(inputs,)`."""
    if not len(squares):
        return np.zeros(0)
    weight = module.weight
    assert isinstance(weight, Tensor)
    scores: Array = (squares * weight.detach().double().square().mean(0).cpu()).numpy()
    return scores


def _per_head(squares: Tensor, layer: LayerLayout, width: int) -> Array:
    energies: Array = _weighted(squares, layer.heads_out).reshape(layer.n_heads, width).sum(1)
    return energies
