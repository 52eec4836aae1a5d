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

from compress.batches import Batches, Loss, Progress, forward, frozen, silent, token_mask
from compress.gram import GramSum
from compress.layout import SUBLAYERS, LayerLayout, Layout, Sublayer
from compress.taps import tapped

__all__ = ["Moments", "Statistics", "observe"]

_Sums: TypeAlias = dict[tuple[Sublayer, int], tuple[GramSum, GramSum]]
"""By sublayer and layer: of the inputs and of the gradients."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moments:
    """Second moments of one output projection ``y = W x + b``, summed over real tokens.

    Attributes:
        inputs: ``Σ [x, 1][x, 1]ᵀ``, `(inputs + 1, inputs + 1)`.
        outputs: ``Σ g gᵀ`` with ``g`` the loss's gradient in ``y``, `(hidden_size, hidden_size)`.
    """

    inputs: Tensor
    outputs: Tensor


@dataclass(slots=True)
class Statistics:
    """Moments of every sublayer that still has inputs, by layer, and how much was looked at."""

    attention: dict[int, Moments] = field(default_factory=dict)
    ffn: dict[int, Moments] = field(default_factory=dict)
    sequences: int = 0
    tokens: int = 0


def observe(
    layout: Layout, batches: Batches, loss: Loss, progress: Progress = silent
) -> Statistics:
    """One streamed pass, forward and backward; only sums of a fixed size are kept.

    Args:
        layout: The model.
        batches: Calibration data.
        loss: Whose curvature counts, see `compress.batches.sampled_fisher_loss`.
        progress: Told after every batch.
    """
    found = Statistics()
    sums: _Sums = {}
    mask: list[Tensor] = []
    with frozen(layout.model), ExitStack() as stack:
        for layer in layout.layers:
            for sublayer in SUBLAYERS:
                stack.enter_context(_watched(layer, sublayer, layout, sums, mask))
        for done, batch in enumerate(batches, start=1):
            mask[:] = [token_mask(batch, layout.model.device)]
            output = loss(forward(layout.model, batch), batch)
            if output.requires_grad:  # it does not where no sublayer is left
                output.backward()
            found.sequences += len(mask[0])
            found.tokens += int(mask[0].sum())
            progress("statistics", done, len(batches))
    for (sublayer, index), (inputs, outputs) in sums.items():
        of = found.attention if sublayer == "attention" else found.ffn
        of[index] = Moments(inputs=inputs.total()[0], outputs=outputs.total()[0])
    return found


@contextmanager
def _watched(
    layer: LayerLayout, sublayer: Sublayer, layout: Layout, sums: _Sums, mask: list[Tensor]
) -> Iterator[None]:
    """Add every token's input and gradient to the sublayer's sums."""
    heads = layer.n_heads * layout.shape.head_width
    n_inputs = heads if sublayer == "attention" else layer.ffn_width
    if not n_inputs:
        yield
        return
    inputs = GramSum(n_inputs + 1, dtype=torch.float32)
    gradients = GramSum(layout.shape.hidden_size, dtype=torch.float32)
    sums[sublayer, layer.index] = inputs, gradients
    entered: list[Tensor] = []

    def enter(features: Tensor) -> None:
        entered.append(features.detach())

    def leave(total: Tensor) -> Tensor:
        watched = total if total.requires_grad else total.detach().requires_grad_()
        features, real = entered.pop(), mask[0]

        def add(gradient: Tensor) -> None:
            seen = features[real].cpu()
            inputs.add_(torch.cat([seen, seen.new_ones(len(seen), 1)], dim=1))
            gradients.add_(gradient[real].cpu())

        watched.register_hook(add)
        return watched

    place = "heads" if sublayer == "attention" else "neurons"
    with tapped(layer, place, enter), tapped(layer, sublayer, leave):  # type: ignore[arg-type]
        yield
