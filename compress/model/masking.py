"""Gates on heads and neurons, by hooks: nothing is removed, something is multiplied by zero.

Serves as the oracle of the surgery: a pruned model equals the same model masked.
transformers 5 ignores `head_mask`, so the gates are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from compress.model.gating import gated
from compress.model.layout import LayerLayout, Layout
from compress.plan.plan import LayerPlan, Plan, Unit

__all__ = ["masked"]


@contextmanager
def masked(layout: Layout, plan: Plan) -> Iterator[None]:
    """Within the block, `layout.model` computes as if only what `plan` keeps were there.

    Layers that are not kept pass their input on; a shared layer stops after the plan's depth.
    """
    kept = {layer.source: layer for layer in plan.layers}
    heads = [_mask(_units(kept.get(x.index), "heads"), x.n_heads) for x in layout.layers]
    neurons = [_mask(_units(kept.get(x.index), "neurons"), x.ffn_width) for x in layout.layers]
    with ExitStack() as stack:
        for layer in layout.layers:
            if layer.index not in kept:
                stack.enter_context(_passed_by(layer))
        stack.enter_context(gated(layout, heads, neurons))
        if layout.architecture.shared:
            stack.enter_context(_depth(layout, plan.depth))
        yield


def _units(layer: LayerPlan | None, unit: Unit) -> tuple[int, ...]:
    """What is kept of a layer; nothing of one that is passed by."""
    kept: tuple[int, ...] = () if layer is None else getattr(layer, unit)
    return kept


def _mask(keep: tuple[int, ...], count: int) -> Tensor:
    """Ones at the kept units: `(count,)`."""
    mask = torch.zeros(count)
    mask[list(keep)] = 1.0
    return mask


@contextmanager
def _passed_by(layer: LayerLayout) -> Iterator[None]:
    """The layer gives its input in place of its output, in the shape that the family expects."""
    streams = layer.architecture.streams

    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        return (*args[:streams], *output[streams:]) if isinstance(output, tuple) else args[0]

    handle = layer.module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _depth(layout: Layout, depth: int) -> Iterator[None]:
    """Use the shared layers `depth` times."""
    config = layout.model.config
    before, config.num_hidden_layers = config.num_hidden_layers, depth
    try:
        yield
    finally:
        config.num_hidden_layers = before
