"""Padding that cannot move the range of an activation: each padding position repeats a real token.

Dynamic int8 quantises a whole tensor with one scale, which is set by its largest value. Padding
positions carry hidden states of their own, often the largest of all, so that the answer to a text
depends on how far it is padded. Within `settled_padding` every padding position carries the states
of its text's first real token, from the embeddings to the last layer. Real positions are computed
as before, since no token attends to padding. Knows layouts and hooks; must not know ONNX.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.binding import bind
from compress.layout import Layout
from compress.taps import tapped

__all__ = ["read_position", "settled_padding"]


@contextmanager
def settled_padding(model: PreTrainedModel) -> Iterator[None]:
    """Within the block, padding positions repeat the first real token's hidden states.

    Outputs at real positions do not change; those at padding positions do. The position that the
    head reads (the first; XLNet's last) counts as real. A forward pass without `attention_mask` is
    left as it is.

    Args:
        model: Any supported encoder; its hooks are removed at the end of the block.
    """
    layout, padding = bind(model), _Padding(read_position(model))
    base: nn.Module = model.base_model
    with ExitStack() as stack:
        handle = base.register_forward_pre_hook(padding.read_mask, with_kwargs=True)
        stack.callback(handle.remove)
        for linear in _linears_below_layers(base, layout):
            stack.callback(linear.register_forward_pre_hook(padding.settle_input).remove)
        for layer in layout.layers[: 2 if layout.architecture.after_first else 1]:
            stack.enter_context(tapped(layer, "input", padding.settle))
        for layer in layout.layers:
            # A relative position lets a padding position attend unlike the token that it repeats.
            stack.enter_context(tapped(layer, "heads", padding.settle))
        yield


def read_position(model: PreTrainedModel) -> int:
    """The position whose states a sequence head reads: the first, or XLNet's last."""
    return -1 if getattr(model.config, "summary_type", None) == "last" else 0


class _Padding:
    """The mask of the forward pass that runs now, and what it does to a tensor.

    Args:
        read: The position that the head reads, which keeps its states.
    """

    def __init__(self, read: int) -> None:
        self._read = read
        self._real: Tensor | None = None
        self._first: Tensor | None = None

    def read_mask(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Take `attention_mask: (batch, sequence)` from the arguments of a base model."""
        given = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
        mask = given.get("attention_mask")
        self._real = self._first = None
        if mask is not None:
            place = torch.arange(mask.shape[1], device=mask.device)
            real = mask.bool() | (place == self._read % mask.shape[1])
            self._real = real[:, :, None]
            self._first = mask.long().argmax(1)[:, None, None]

    def settle(self, states: Tensor) -> Tensor | None:
        """`states: (batch, sequence, features)` with every padding position settled."""
        if self._real is None or self._first is None or states.dim() != 3:
            return None
        first = states.gather(1, self._first.expand(-1, 1, states.shape[-1]))
        return torch.where(self._real, states, first)

    def settle_input(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        settled = self.settle(args[0])
        return None if settled is None else (settled, *args[1:])


def _linears_below_layers(base: nn.Module, layout: Layout) -> list[nn.Linear]:
    """Projections of the embeddings (ALBERT, ELECTRA), which run before the first layer.

    A pooler is among them and takes no tokens, so that `settle` leaves its input as it is.
    """
    inside = {id(module) for layer in layout.layers for module in layer.module.modules()}
    found = [module for module in base.modules() if isinstance(module, nn.Linear)]
    return [linear for linear in found if id(linear) not in inside]
