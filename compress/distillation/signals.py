"""What a model says inside: logits, hidden states, queries, keys and values, of one batch."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from compress.architectures import Slot
from compress.errors import UnsupportedArchitectureError
from compress.model.hooks import Hook, hooked
from compress.model.layout import LayerLayout, Layout
from compress.model.task_head import head_of, stack_outputs

__all__ = ["PROJECTIONS", "Projection", "Signals", "capture"]

Projection = Literal["queries", "keys", "values"]
PROJECTIONS: tuple[Projection, ...] = get_args(Projection)

_Keep: TypeAlias = Callable[[Projection, Tensor], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Signals:
    """One batch, as a model sees it.

    Attributes:
        logits: The head's output, see `compress.model.task_head.stacked_outputs`.
        hidden: What enters the first layer, then what leaves each, before any norm that follows
            the last: `(batch, sequence, hidden_size)` each.
        attentions: Each layer's attention, where it was asked for:
            `(batch, heads, sequence, sequence)`.
        projections: Queries, keys and values by layer, from 1: `(batch, sequence, heads * width)`.
    """

    logits: Tensor
    hidden: tuple[Tensor, ...]
    attentions: tuple[Tensor, ...] = ()
    projections: dict[tuple[Projection, int], Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Signals:
        """The same on a device."""
        return Signals(
            logits=self.logits.to(device),
            hidden=tuple(state.to(device) for state in self.hidden),
            attentions=tuple(attention.to(device) for attention in self.attentions),
            projections={key: value.to(device) for key, value in self.projections.items()},
        )


def capture(
    layout: Layout,
    inputs: Mapping[str, Tensor],
    *,
    layers: Collection[int] = (),
    attentions: bool = False,
) -> Signals:
    """Run a model and keep what it says inside.

    Args:
        layout: The model.
        inputs: What a tokenizer gives; what the model does not take is left aside.
        layers: Layers whose queries, keys and values are kept, counted from 1.
        attentions: Keep attention probabilities; the model must be set to eager attention.

    Raises:
        UnsupportedArchitectureError: The family keeps its queries, keys or values elsewhere.
    """
    model = layout.model
    takes = inspect.signature(model.forward).parameters
    told: dict[tuple[Projection, int], Tensor] = {}
    states: dict[int, Tensor] = {}
    with _captured_projections(layout, layers, told), _passing(layout, states):
        output = model(
            **{name: value for name, value in inputs.items() if name in takes},
            output_attentions=attentions,
        )
    head = head_of(model)
    outputs = [getattr(output, name) for name in head.outputs if hasattr(output, name)]
    return Signals(
        logits=stack_outputs(head, outputs, inputs["attention_mask"]),
        hidden=tuple(states[i] for i in sorted(states)),
        attentions=tuple(output.attentions or ()) if attentions else (),
        projections=told,
    )


@contextmanager
def _passing(layout: Layout, states: dict[int, Tensor]) -> Iterator[None]:
    """Keep hidden states by number: 0 what enters the first layer, then what leaves each."""
    with ExitStack() as stack:
        stack.enter_context(
            hooked(layout.layers[layout.shape.applied[0]], "input", _first_into(states))
        )
        for layer in layout.layers:
            numbers = _numbers(layout, layer)
            stack.enter_context(hooked(layer, "output", _next_into(states, numbers)))
        yield


def _first_into(states: dict[int, Tensor]) -> Hook:
    def keep(state: Tensor) -> None:
        states.setdefault(0, state)

    return keep


def _next_into(states: dict[int, Tensor], numbers: list[int]) -> Hook:
    calls = iter(numbers)

    def keep(state: Tensor) -> None:
        states[next(calls)] = state

    return keep


def _numbers(layout: Layout, layer: LayerLayout) -> list[int]:
    """The positions, from 1, at which a physical layer is applied."""
    return [i for i, used in enumerate(layout.shape.applied, start=1) if used == layer.index]


def _parts_of(slots: tuple[Slot, ...]) -> tuple[Slot, ...] | None:
    """The slots that queries, keys and values come out of: three linears, or one for all."""
    first = slots[0]
    if first.parts == 3:
        return (first,) if len(slots) == 1 else None  # what is added afterwards is not captured
    plain = slots[:3]
    linear = all(slot.axis == 0 and slot.parts == 1 for slot in plain)
    return plain if len(plain) == 3 and linear else None


@contextmanager
def _captured_projections(
    layout: Layout, layers: Collection[int], found: dict[tuple[Projection, int], Tensor]
) -> Iterator[None]:
    with ExitStack() as stack:
        if layers:
            for layer in layout.layers:
                if layer.n_heads:
                    keep = _numbered(_numbers(layout, layer), layers, found)
                    _hook_projections(stack, layer, keep)
        yield


def _numbered(
    numbers: list[int],
    layers: Collection[int],
    found: dict[tuple[Projection, int], Tensor],
) -> _Keep:
    """Keep what comes by under the number of the layer: of a shared one, of each use in turn."""
    calls: Counter[Projection] = Counter()

    def keep(name: Projection, tensor: Tensor) -> None:
        number = numbers[calls[name] % len(numbers)]
        calls[name] += 1
        if number in layers:
            found[name, number] = tensor

    return keep


def _hook_projections(stack: ExitStack, layer: LayerLayout, keep: _Keep) -> None:
    parts = _parts_of(layer.architecture.heads_in)
    if parts is None:
        raise UnsupportedArchitectureError(
            f"attention and relations cannot be learnt from {layer.architecture.model_type!r}, "
            "whose queries, keys and values are not outputs of linears; leave them out"
        )
    owners = {slot.slot.path: slot.owner for slot in layer.attention.slots}
    for i, slot in enumerate(parts):

        def hook(_: nn.Module, __: object, output: Tensor, place: int = i) -> None:
            if len(parts) == 3:
                keep(PROJECTIONS[place], output)
                return
            for name, part in zip(PROJECTIONS, output.chunk(3, dim=-1), strict=True):
                keep(name, part)

        stack.callback(owners[slot.path].register_forward_hook(hook).remove)
