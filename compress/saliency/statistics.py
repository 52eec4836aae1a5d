"""What one pass over calibration data tells about every output projection, in bounded memory.

Attention and FFN both end in a linear output projection. Removing a head or a neuron empties
columns of it, so that all that scoring needs is how its inputs vary (a Gram matrix) and how the
loss bends along its outputs (a Fisher matrix). Both have a fixed size, whatever the number of
tokens. Knows layouts and losses; must not know what is done with the matrices.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from compress.model.batches import Batches, Loss, Progress, forward, frozen, silent, token_mask
from compress.model.hooks import hooked
from compress.model.layout import LayerLayout, Layout, Sublayer, SublayerName
from compress.saliency.gram import GramSum

__all__ = ["GRADIENT_ROWS", "Moments", "Statistics", "observe", "with_one"]

GRADIENT_ROWS = 512
"""Gradients that wait, a sublayer: those of all layers wait at once."""

_Sums: TypeAlias = dict[tuple[int, SublayerName], tuple[GramSum, GramSum]]
"""By layer and sublayer: of the inputs and of the gradients."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moments:
    """Second moments of one output projection ``y = W x + b``, summed over real tokens.

    Attributes:
        inputs: ``Σ [x, 1][x, 1]ᵀ``, `(inputs + 1, inputs + 1)`; empty if it was not asked for.
        outputs: ``Σ g gᵀ`` with ``g`` the loss's gradient in ``y``, `(hidden_size, hidden_size)`.
    """

    inputs: Tensor
    outputs: Tensor


@dataclass(slots=True)
class Statistics:
    """Moments of every sublayer that still has inputs, and how much was looked at.

    Attributes:
        moments: Second moments by index of the layer and name of the sublayer.
        sequences: Sequences that were looked at.
        tokens: Their real tokens.
    """

    moments: dict[tuple[int, SublayerName], Moments] = field(default_factory=dict)
    sequences: int = 0
    tokens: int = 0


def observe(
    layout: Layout,
    batches: Batches,
    loss: Loss,
    progress: Progress = silent,
    *,
    inputs: bool = True,
) -> Statistics:
    """One streamed pass, forward and backward; only sums of a fixed size are kept.

    Args:
        layout: The model.
        batches: Calibration data.
        loss: The loss whose curvature counts, see `compress.model.batches.sampled_fisher_loss`.
        progress: Called after every batch.
        inputs: Whether inputs count too, or gradients alone.
    """
    found = Statistics()
    sums: _Sums = {}
    mask: list[Tensor] = []
    with frozen(layout.model), ExitStack() as stack:
        for layer in layout.layers:
            for sublayer in layer.sublayers:
                stack.enter_context(_watched(layer, sublayer, layout, sums, mask, inputs))
        for done, batch in enumerate(batches, start=1):
            mask[:] = [token_mask(batch, layout.model.device)]
            output = loss(forward(layout.model, batch), batch)
            if output.requires_grad:  # it does not where no sublayer is left
                output.backward()
            found.sequences += len(mask[0])
            found.tokens += int(mask[0].sum())
            progress("statistics", done, len(batches))
    while sums:  # let go one by one
        place, (entering, leaving) = sums.popitem()
        found.moments[place] = Moments(inputs=entering.total()[0], outputs=leaving.total()[0])
    return found


def with_one(rows: Tensor) -> Tensor:
    """Rows with the constant 1 behind them: `(n, inputs + 1)`."""
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)


@contextmanager
def _watched(
    layer: LayerLayout,
    sublayer: Sublayer,
    layout: Layout,
    sums: _Sums,
    mask: list[Tensor],
    both: bool,
) -> Iterator[None]:
    """Add every token's input, if they count, and gradient to the sublayer's sums."""
    n_inputs = sublayer.n_inputs
    if not n_inputs:
        yield
        return
    inputs = GramSum(n_inputs + 1 if both else 0, dtype=torch.float32)
    gradients = GramSum(layout.shape.hidden_size, dtype=torch.float32, most=GRADIENT_ROWS)
    sums[layer.index, sublayer.name] = inputs, gradients
    entered: list[Tensor] = []

    def enter(features: Tensor) -> None:
        entered.append(features.detach())

    def leave(total: Tensor) -> Tensor:
        watched = total if total.requires_grad else total.detach().requires_grad_()
        features, real = entered.pop(), mask[0]

        def add(gradient: Tensor) -> None:
            if both:
                inputs.add_(with_one(features[real].cpu()))
            gradients.add_(gradient[real].cpu())

        watched.register_hook(add)
        return watched

    with hooked(layer, sublayer.unit, enter), hooked(layer, sublayer.name, leave):
        yield
