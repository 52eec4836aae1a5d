"""Factors on what heads and neurons give, as the model runs: for masks, and for learning them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor

from compress.model.hooks import Hook, hooked
from compress.model.layout import Layout

__all__ = ["gated", "times"]


def times(gates: Sequence[Tensor], index: int) -> Hook:
    """A tap that multiplies by `gates[index]` as it is when something passes.

    Args:
        gates: Each `(units,)` or `(features,)`; a unit's factor holds for all its features.
        index: Which.
    """

    def hook_fn(tensor: Tensor) -> Tensor:
        gate = gates[index].to(tensor)
        return tensor * gate.repeat_interleave(tensor.shape[-1] // max(len(gate), 1))

    return hook_fn


@contextmanager
def gated(layout: Layout, heads: Sequence[Tensor], neurons: Sequence[Tensor]) -> Iterator[None]:
    """Within the block, what heads and neurons give is multiplied by their gates.

    Args:
        layout: The model.
        heads: Per layer, `(n_heads,)`, or `(n_heads * head_width,)` for a gate a feature.
        neurons: Per layer, `(ffn_width,)`.

    Both are read at each pass, so that a list's items may be replaced between passes.
    """
    with ExitStack() as stack:
        for layer in layout.layers:
            stack.enter_context(hooked(layer, "heads", times(heads, layer.index)))
            stack.enter_context(hooked(layer, "neurons", times(neurons, layer.index)))
        yield
