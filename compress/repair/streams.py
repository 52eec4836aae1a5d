"""A batch on its way up through the layers of two models, one layer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

from compress.model.batches import Batch, forward, token_mask
from compress.model.hooks import Place, first_of, hooked
from compress.model.layout import LayerLayout, Layout

__all__ = ["Stop", "Stream", "captured", "entering", "kind_of", "passed", "uses"]


class Stop(Exception):  # noqa: N818 - a jump out of a forward pass, not an error
    """Raised by a hook once a forward pass has gone far enough."""


_Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""What a layer is called with beside its hidden states."""


@dataclass(slots=True)
class Stream:
    """One batch on its way up: what enters the next layer, and what its sublayers should give.

    Attributes:
        teacher: Hidden states of the unpruned model, as the family's layers take them.
        student: Hidden states of the student.
        entry: What entered the first layer.
        mask: `(batch, sequence)`, True at real tokens.
        calls: Further arguments of each kind of layer.
        targets: By sublayer of the present layer: the teacher's residual sum at real tokens,
            `(tokens, hidden_size)`.
    """

    teacher: Tensor
    student: Tensor
    entry: Tensor
    mask: Tensor
    calls: dict[str, _Call]
    targets: dict[str, Tensor]


def entering(teacher: Layout, batch: Batch) -> Stream:
    """Run the teacher up to its first layer, or until every kind of layer has been called."""
    first, *others = teacher.layers
    missing = {kind_of(teacher, layer): layer for layer in reversed(others)}
    missing.pop(kind_of(teacher, first), None)
    (stream,) = uses(teacher, first, batch, stop=True)
    for kind, layer in missing.items():
        (use,) = uses(teacher, layer, batch, stop=True)
        stream.calls[kind] = use.calls[kind]
    return stream


def uses(teacher: Layout, layer: LayerLayout, batch: Batch, *, stop: bool = False) -> list[Stream]:
    """What enters `layer` at each of its uses; at the first alone, and no further, if `stop`."""
    streams: list[Stream] = []
    mask = token_mask(batch, teacher.model.device)
    kind = kind_of(teacher, layer)

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden, *rest = args
        streams.append(Stream(hidden, hidden, hidden, mask, {kind: (tuple(rest), kwargs)}, {}))
        if stop:
            raise Stop

    handle = layer.module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        with suppress(Stop):
            forward(teacher.model, batch)
    finally:
        handle.remove()
    return streams


def passed(layout: Layout, layer: LayerLayout, kind: str, stream: Stream, hidden: Tensor) -> Tensor:
    """The hidden states that leave `layer`, and what is applied after the first."""
    args, kwargs = stream.calls[kind]
    output = first_of(layer.module(hidden, *args, **kwargs))
    if layer.index == 0 and layout.after_first is not None:
        output = layout.after_first(stream.entry, output, stream.mask.long())
    return output


def kind_of(layout: Layout, layer: LayerLayout) -> str:
    """The kind of a layer of an unpruned model; layers of one kind are called alike."""
    kinds = layout.shape.kinds
    return kinds[layer.index] if kinds else ""


@contextmanager
def captured(
    layer: LayerLayout, place: Place, seen: dict[str, Tensor], *, stop: bool = False
) -> Iterator[None]:
    """Within the block, `seen` gets what passes `place`; `stop` ends the forward pass there."""

    def keep(tensor: Tensor) -> None:
        seen[place] = tensor
        if stop:
            raise Stop

    with hooked(layer, place, keep):
        yield
