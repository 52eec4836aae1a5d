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
from compress.plan.plan import EncoderShape, Unit

__all__ = [
    "SUBLAYERS",
    "UNIT_OF",
    "BoundSlot",
    "LayerLayout",
    "Layout",
    "Sublayer",
    "SublayerName",
    "child",
    "replace_child",
]

SublayerName = Literal["attention", "ffn"]
SUBLAYERS: tuple[SublayerName, ...] = get_args(SublayerName)
UNIT_OF: dict[SublayerName, Unit] = {"attention": "heads", "ffn": "neurons"}


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundSlot:
    """A slot found in a live layer.

    Attributes:
        slot: The record's slot.
        owner: The linear, or the module that holds the bare parameter.
        name: Name of the weight in its owner.
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
class Sublayer:
    """The attention or the FFN of one physical layer.

    Attributes:
        name: `attention` or `ffn`.
        module: The layer that it is a part of.
        architecture: The family's record.
        unit_width: Inputs of the output projection that belong to one unit: the head width, or 1.
        n_units: Heads or neurons that it has.
        slots: Where the units are, the output projection last; empty where no unit is left.
    """

    name: SublayerName
    module: nn.Module
    architecture: Architecture
    unit_width: int
    n_units: int
    slots: tuple[BoundSlot, ...]

    @property
    def unit(self) -> Unit:
        """What it consists of; also the place where its output projection's input passes."""
        return UNIT_OF[self.name]

    @property
    def n_inputs(self) -> int:
        """Inputs of the output projection."""
        return self.n_units * self.unit_width

    @property
    def projection(self) -> tuple[Tensor | None, Tensor | None]:
        """The output projection's weight as `(hidden_size, inputs)`, and its bias.

        Either is `None` where there is none. Writing into them in place changes the model.
        """
        if self.slots:
            weight = self.slots[-1].weight
            return weight.view(weight.shape[0], -1), self.slots[-1].bias
        attention = f"{self.architecture.attention}.output"
        path = attention if self.name == "attention" else self.architecture.ffn_out.path
        bias = child(self.module, path).bias
        return None, bias if isinstance(bias, Tensor) else None

    @property
    def norm(self) -> nn.Module | None:
        """The norm that belongs to the attention module and stays when its heads are removed."""
        architecture = self.architecture
        if self.name == "ffn" or architecture.attention_output != "normed":
            return None
        removed = f"{architecture.attention}.norm"
        return child(self.module, architecture.attention_sum if self.n_units else removed)

    @property
    def summing(self) -> nn.Module | None:
        """The module whose input is the residual sum after the sublayer.

        `None` if the layer's own output is that sum.
        """
        if self.name == "attention":
            return self.norm or child(self.module, self.architecture.attention_sum)
        path = self.architecture.ffn_sum
        return child(self.module, path) if path else None


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerLayout:
    """One physical layer of a live model.

    Attributes:
        index: Its place.
        module: The layer.
        architecture: The family's record.
        attention: Its heads.
        ffn: Its neurons.
    """

    index: int
    module: nn.Module
    architecture: Architecture
    attention: Sublayer
    ffn: Sublayer

    @property
    def sublayers(self) -> tuple[Sublayer, Sublayer]:
        """Attention and FFN, in the order in which they are applied."""
        return self.attention, self.ffn

    @property
    def slots(self) -> tuple[BoundSlot, ...]:
        """Where all units are."""
        return *self.attention.slots, *self.ffn.slots

    @property
    def n_heads(self) -> int:
        """Heads that it has."""
        return self.attention.n_units

    @property
    def ffn_width(self) -> int:
        """FFN neurons that it has."""
        return self.ffn.n_units


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """A live model seen as layers, heads and neurons.

    Attributes:
        model: The live model.
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
