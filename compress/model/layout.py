"""A record bound to a live model: where its heads, neurons and layers are.

`compress.model.binding` makes one; nothing past it needs to check a path or a shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.architectures import Architecture, Slot
from compress.errors import LayoutError
from compress.plan.plan import EncoderShape

__all__ = [
    "SUBLAYERS",
    "BoundSlot",
    "LayerLayout",
    "Layout",
    "Sublayer",
    "child",
    "replace_child",
]

Sublayer = Literal["attention", "ffn"]
SUBLAYERS: tuple[Sublayer, ...] = get_args(Sublayer)


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundSlot:
    """A slot found in a live layer.

    Attributes:
        slot: Of the record.
        owner: The linear, or the module that holds the bare parameter.
        name: Of the weight in its owner.
        width: Positions on the axis that one unit takes in one part.
    """

    slot: Slot
    owner: nn.Module
    name: str
    width: int

    @property
    def weight(self) -> nn.Parameter:
        """The live parameter."""
        parameter = getattr(self.owner, self.name)
        assert isinstance(parameter, nn.Parameter)  # `bind` has checked it
        return parameter

    @property
    def bias(self) -> nn.Parameter | None:
        """The bias of a linear."""
        bias = getattr(self.owner, "bias", None) if isinstance(self.owner, nn.Linear) else None
        return bias if isinstance(bias, nn.Parameter) else None

    @property
    def parameters(self) -> Iterator[tuple[str, int]]:
        """Name in the owner, and axis over units, of everything that units own."""
        yield self.name, self.slot.axis
        if self.slot.axis == 0 and self.bias is not None:
            yield "bias", 0


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerLayout:
    """One physical layer of a live model.

    Attributes:
        index: Its place.
        module: The layer.
        architecture: The family's record.
        n_heads, ffn_width: Units that it has.
        head_slots, ffn_slots: Where they are, the output projection last; empty where none is
            left.
    """

    index: int
    module: nn.Module
    architecture: Architecture
    n_heads: int
    ffn_width: int
    head_slots: tuple[BoundSlot, ...]
    ffn_slots: tuple[BoundSlot, ...]

    @property
    def attention_norm(self) -> nn.Module | None:
        """The norm that belongs to the attention module and outlives its heads."""
        architecture = self.architecture
        if architecture.attention_output != "normed":
            return None
        removed = f"{architecture.attention}.norm"
        return child(self.module, architecture.attention_sum if self.n_heads else removed)

    def summing(self, sublayer: Sublayer) -> nn.Module | None:
        """The module whose input is the residual sum after `sublayer`.

        `None` if the layer's own output is that sum.
        """
        if sublayer == "attention":
            return self.attention_norm or child(self.module, self.architecture.attention_sum)
        path = self.architecture.ffn_sum
        return child(self.module, path) if path else None

    def projection(self, sublayer: Sublayer) -> tuple[Tensor | None, Tensor | None]:
        """The output projection's weight as `(hidden_size, inputs)`, and its bias.

        Either is `None` where there is none. Writing into them in place changes the model.
        """
        slots = self.head_slots if sublayer == "attention" else self.ffn_slots
        if slots:
            weight = slots[-1].weight
            return weight.view(weight.shape[0], -1), slots[-1].bias
        path = (
            f"{self.architecture.attention}.output"
            if sublayer == "attention"
            else self.architecture.ffn_out.path
        )
        bias = child(self.module, path).bias
        return None, bias if isinstance(bias, Tensor) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """A live model seen as layers, heads and neurons.

    Attributes:
        model: What was bound.
        architecture: The family's record.
        containers: The layer lists, several where groups of layers are shared.
        layers: Every physical layer.
        shape: The sizes.
        after_first: A module that is applied after the first layer.
    """

    model: PreTrainedModel
    architecture: Architecture
    containers: tuple[nn.ModuleList, ...]
    layers: tuple[LayerLayout, ...]
    shape: EncoderShape
    after_first: nn.Module | None


def child(module: nn.Module, path: str) -> nn.Module:
    """The submodule of `module` at `path`.

    Raises:
        LayoutError: Nothing is there, or something that is no module.
    """
    try:
        return module.get_submodule(path)
    except AttributeError as error:
        raise LayoutError(
            f"{type(module).__name__} must have a module at {path!r}, found none ({error}); "
            "its record in compress/architectures does not fit this transformers version"
        ) from error


def replace_child(module: nn.Module, path: str, new: nn.Module) -> None:
    """Put `new` in the place of the submodule at `path`."""
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, new)
