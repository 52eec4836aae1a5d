"""Places in a live layer where a tensor can be read or changed on its way.

Every tensor is given as `(batch, sequence, features)`, whatever the family computes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from compress.architectures import Architecture
from compress.model.layout import LayerLayout, child

__all__ = ["Hook", "Place", "first_of", "hooked"]

Place = Literal["heads", "neurons", "attention", "ffn", "input", "output"]
"""What enters the attention's output projection, `(batch, sequence, n_heads * head_width)`; what
enters the FFN's, `(batch, sequence, ffn_width)`; the residual sum after either sublayer; the
layer's input and output, `(batch, sequence, hidden_size)`."""

Hook: TypeAlias = Callable[[Tensor], Tensor | None]
"""Given the tensor; what it returns, unless `None`, takes the tensor's place."""


@contextmanager
def hooked(layer: LayerLayout, place: Place, hook_fn: Hook) -> Iterator[None]:
    """Within the block, `hook_fn` is called each time that a tensor passes `place`.

    Where no head or no neuron is left, nothing passes. A layer of two streams (XLNet) calls the
    taps inside it for each of them.
    """
    architecture, module = layer.architecture, layer.module
    hook_fn = _batch_first(hook_fn) if architecture.sequence_first else hook_fn
    with ExitStack() as stack:
        match place:
            case "heads" if layer.n_heads and architecture.context_method:
                stack.enter_context(_method(module, architecture, hook_fn))
            case "heads" if layer.n_heads:
                _on_input(stack, child(module, architecture.heads_out.path), hook_fn)
            case "neurons" if layer.ffn_width:
                _on_input(stack, child(module, architecture.ffn_out.path), hook_fn)
            case "attention" | "ffn":
                summing = (layer.attention if place == "attention" else layer.ffn).summing
                if summing is None:
                    _on_output(stack, module, hook_fn)
                else:
                    _on_input(stack, summing, hook_fn)
            case "input":
                _on_input(stack, module, hook_fn)
            case "output":
                _on_output(stack, module, hook_fn)
            case _:
                pass
        yield


def first_of(output: Any) -> Tensor:
    """The hidden states among what a layer returns."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


def _on_input(stack: ExitStack, module: nn.Module, hook_fn: Hook) -> None:
    def hook(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        new = hook_fn(args[0])
        return None if new is None else (new, *args[1:])

    stack.callback(module.register_forward_pre_hook(hook).remove)


def _on_output(stack: ExitStack, module: nn.Module, hook_fn: Hook) -> None:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        new = hook_fn(first_of(output))
        if new is None:
            return None
        return (new, *output[1:]) if isinstance(output, tuple) else new

    stack.callback(module.register_forward_hook(hook).remove)


def _batch_first(hook_fn: Hook) -> Hook:
    def turned(tensor: Tensor) -> Tensor | None:
        new = hook_fn(tensor.transpose(0, 1))
        return None if new is None else new.transpose(0, 1)

    return turned


@contextmanager
def _method(module: nn.Module, architecture: Architecture, hook_fn: Hook) -> Iterator[None]:
    """Tap the second argument of a method, `(sequence, batch, heads, head_width)`."""
    path, _, name = architecture.context_method.rpartition(".")
    owner = child(module, path)
    method = getattr(owner, name)
    shadowed = name in vars(owner)

    def wrapped(residual: Tensor, context: Tensor, *args: Any, **kwargs: Any) -> Any:
        new = hook_fn(context.flatten(2))
        context = context if new is None else new.reshape(context.shape)
        return method(residual, context, *args, **kwargs)

    setattr(owner, name, wrapped)
    try:
        yield
    finally:
        if shadowed:
            setattr(owner, name, method)
        else:
            delattr(owner, name)
