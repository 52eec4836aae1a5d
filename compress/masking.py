"""Gates on heads and neurons, by hooks: nothing is removed, something is multiplied by zero.

Serves as the oracle of the surgery: a pruned model equals the same model masked.
transformers 5 ignores `head_mask`, so the gates are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from compress.layout import Layout
from compress.plan import Plan

__all__ = ["masked"]


@contextmanager
def masked(layout: Layout, plan: Plan) -> Iterator[None]:
    """Within the block, `layout.model` computes as if only what `plan` keeps were there.

    Layers that are not kept pass their input on; a shared layer stops after the plan's depth.
    """
    kept = {layer.source: layer for layer in plan.layers}
    with ExitStack() as stack:
        for layer in layout.layers:
            plan_of_layer = kept.get(layer.index)
            if plan_of_layer is None:
                stack.enter_context(_hooked(layer.module.register_forward_hook(_pass_on)))
                continue
            heads = _mask(plan_of_layer.heads, layer.n_heads)
            neurons = _mask(plan_of_layer.neurons, layer.ffn_width)
            _gate(stack, layer.heads_out, heads.repeat_interleave(layout.shape.head_width))
            _gate(stack, layer.ffn_out, neurons)
        if layout.architecture.shared:
            stack.enter_context(_depth(layout, plan.depth))
        yield


def _mask(keep: tuple[int, ...], count: int) -> Tensor:
    """Ones at the kept units: `(count,)`."""
    mask = torch.zeros(count)
    mask[list(keep)] = 1.0
    return mask


def _gate(stack: ExitStack, module: nn.Module, mask: Tensor) -> None:
    if mask.numel():
        stack.enter_context(_hooked(module.register_forward_pre_hook(_multiply(mask))))


def _multiply(mask: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    def hook(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0] * mask.to(args[0]), *args[1:])

    return hook


def _pass_on(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    """Give the layer's input in place of its output, in the shape that the family expects."""
    return (args[0], *output[1:]) if isinstance(output, tuple) else args[0]


@contextmanager
def _depth(layout: Layout, depth: int) -> Iterator[None]:
    """Use the shared layers `depth` times."""
    config = layout.model.config
    before, config.num_hidden_layers = config.num_hidden_layers, depth
    try:
        yield
    finally:
        config.num_hidden_layers = before


@contextmanager
def _hooked(handle: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()
