"""A record bound to a live model: where its heads, neurons and layers are.

Checks every path and shape at the door, so that nothing past it needs to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from compress.architectures import Architecture, Slot, architecture_for
from compress.errors import LayoutError
from compress.plan import EncoderShape
from compress.removed import ConstantOutput, RemovedAttention

__all__ = ["BoundSlot", "LayerLayout", "Layout", "Sublayer", "bind", "child", "replace_child"]

Sublayer = Literal["attention", "ffn"]

_HEAD_SIZE_KEYS = ("head_dim", "d_head", "attention_head_size")


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
        inside = "norm" if self.n_heads == 0 else _below(architecture, architecture.attention_sum)
        return child(self.module, f"{architecture.attention}.{inside}")

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


def bind(model: PreTrainedModel) -> Layout:
    """Bind the family's record to `model`.

    Args:
        model: A transformers encoder, stock or already pruned by this package.

    Returns:
        The layout; its modules are those of `model`.

    Raises:
        UnsupportedArchitectureError: The family has no record.
        LayoutError: A path or shape of the record does not fit the model, or a layer holds a
            parameter that the record does not know.
    """
    architecture = architecture_for(model.config.model_type)
    if getattr(model.config, "is_decoder", False):
        raise LayoutError(
            "config.is_decoder must be false, found True: a decoder is no encoder; "
            "load the model as an encoder"
        )
    containers = _containers(model.base_model, architecture.layers)
    modules = [layer for container in containers for layer in container]
    if not modules:
        raise LayoutError(f"{architecture.layers} must hold at least one layer, found none")
    queries = _queries(model.config, architecture)
    binder = _Binder(architecture, _head_size(model.config) * queries, queries)
    layers = tuple(binder.layer(index, module) for index, module in enumerate(modules))
    after_first = _after_first(model, architecture)
    return Layout(
        model=model,
        architecture=architecture,
        containers=containers,
        layers=layers,
        shape=_shape(model, binder, layers, len(containers), after_first is not None),
        after_first=after_first,
    )


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


def _below(architecture: Architecture, path: str) -> str:
    """`path` as seen from the attention module."""
    return path.removeprefix(f"{architecture.attention}.")


def _containers(base: nn.Module, path: str) -> tuple[nn.ModuleList, ...]:
    head, star, tail = path.partition(".*.")
    parents = child(base, head).children() if star else [base]
    found = tuple(child(parent, tail if star else head) for parent in parents)
    for container in found:
        if not isinstance(container, nn.ModuleList):
            raise LayoutError(
                f"{path} must be an nn.ModuleList, found {type(container).__name__}; "
                "its record in compress/architectures does not fit"
            )
    return tuple(c for c in found if isinstance(c, nn.ModuleList))


def _after_first(model: PreTrainedModel, architecture: Architecture) -> nn.Module | None:
    parent, _, name = architecture.after_first.rpartition(".")
    found = getattr(child(model.base_model, parent), name, None) if name else None
    return found if isinstance(found, nn.Module) else None


def _head_size(config: PreTrainedConfig) -> int:
    """Width of one query head."""
    for key in _HEAD_SIZE_KEYS:
        if getattr(config, key, None):
            return int(getattr(config, key))
    return int(config.hidden_size // config.num_attention_heads)


def _queries(config: PreTrainedConfig, architecture: Architecture) -> int:
    """Query heads that share one key."""
    if not architecture.key_heads:
        return 1
    return int(config.num_attention_heads // getattr(config, architecture.key_heads))


@dataclass(frozen=True, slots=True)
class _Binder:
    """Finds a record's slots in a layer, and refuses what does not fit.

    `head_width` is that of a head with all its queries, `queries` of them.
    """

    architecture: Architecture
    head_width: int
    queries: int

    def layer(self, index: int, module: nn.Module) -> LayerLayout:
        architecture = self.architecture
        no_heads = isinstance(child(module, architecture.attention), RemovedAttention)
        no_ffn = isinstance(child(module, architecture.ffn_out.path), ConstantOutput)
        heads = () if no_heads else self._heads(index, module)
        ffn = () if no_ffn else self._ffn(index, module)
        layer = LayerLayout(
            index=index,
            module=module,
            architecture=architecture,
            n_heads=_count(heads),
            ffn_width=_count(ffn),
            head_slots=heads,
            ffn_slots=ffn,
        )
        _ = layer.summing("attention"), layer.summing("ffn")
        self._check_leftovers(layer)
        return layer

    def _heads(self, index: int, module: nn.Module) -> tuple[BoundSlot, ...]:
        widths = {"head": self.head_width, "key": self.head_width // self.queries, "one": 1}
        out = _bound(index, module, self.architecture.heads_out, widths)
        assert out is not None
        into = [_bound(index, module, slot, widths) for slot in self.architecture.heads_in]
        slots = (*(slot for slot in into if slot), out)
        _check_counts(index, slots)
        return slots

    def _ffn(self, index: int, module: nn.Module) -> tuple[BoundSlot, ...]:
        widths = {"head": 1}
        slots = tuple(
            slot
            for record in (*self.architecture.ffn_in, self.architecture.ffn_out)
            if (slot := _bound(index, module, record, widths))
        )
        _check_counts(index, slots)
        return slots

    def _check_leftovers(self, layer: LayerLayout) -> None:
        """Refuse a parameter that is of no unit and of no known rest."""
        architecture = self.architecture
        owned = {id(slot.weight) for slot in (*layer.head_slots, *layer.ffn_slots)}
        owned |= {id(slot.bias) for slot in (*layer.head_slots, *layer.ffn_slots)}
        rest = [*architecture.leftovers, architecture.ffn_out.path]
        rest += [architecture.attention] if layer.n_heads == 0 else []
        for name, parameter in layer.module.named_parameters():
            known = any(name.startswith(f"{path}.") for path in rest)
            if id(parameter) not in owned and not known:
                raise LayoutError(
                    f"layer {layer.index}: every parameter must belong to a slot or a leftover of "
                    f"the record for {architecture.model_type}, found {name!r} of shape "
                    f"{tuple(parameter.shape)}; this variant of the family is not supported"
                )


def _bound(
    index: int, module: nn.Module, slot: Slot, widths: dict[str, int]
) -> BoundSlot | None:
    """The slot in this layer; `None` if it is optional and not there."""
    parent, _, name = slot.path.rpartition(".")
    found = getattr(child(module, parent), name, None)
    if found is None and slot.optional:
        return None
    width = widths[slot.width]
    match found:
        case nn.Linear():
            bound = BoundSlot(slot=slot, owner=found, name="weight", width=width)
        case nn.Parameter():
            bound = BoundSlot(slot=slot, owner=child(module, parent), name=name, width=width)
        case _:
            raise LayoutError(
                f"layer {index}: {slot.path} must be an nn.Linear or a parameter, found "
                f"{type(found).__name__}; its record in compress/architectures does not fit"
            )
    return bound


def _count(slots: tuple[BoundSlot, ...]) -> int:
    """Units of a sublayer, as its output projection has them."""
    if not slots:
        return 0
    out = slots[-1]
    return int(out.weight.shape[out.slot.axis]) // (out.width * out.slot.parts)


def _check_counts(index: int, slots: tuple[BoundSlot, ...]) -> None:
    """Refuse projections that do not carry whole units, or another number than the output's."""
    for bound in reversed(slots):
        slot, shape = bound.slot, list(bound.weight.shape)
        size = shape[slot.axis]
        expected = max(_count(slots), 1) * bound.width * slot.parts
        if size != expected:
            fitting = [expected if axis == slot.axis else n for axis, n in enumerate(shape)]
            raise LayoutError(
                f"layer {index}: {slot.path} must have the shape {tuple(fitting)}, found "
                f"{tuple(shape)}; config.json and weights disagree, or the layer's projections do"
            )


def _shape(
    model: PreTrainedModel,
    binder: _Binder,
    layers: tuple[LayerLayout, ...],
    n_containers: int,
    first_pinned: bool,
) -> EncoderShape:
    architecture, config = binder.architecture, model.config
    heads = max(layers, key=lambda layer: layer.n_heads)
    ffn = max(layers, key=lambda layer: layer.ffn_width)
    head_weights, head_biases = _owned(heads.head_slots, heads.n_heads)
    neuron_weights, neuron_biases = _owned(ffn.ffn_slots, ffn.ffn_width)
    kinds = getattr(config, architecture.kinds_key) if architecture.kinds_key else ()
    return EncoderShape(
        model_type=architecture.model_type,
        hidden_size=int(config.hidden_size),
        head_width=binder.head_width,
        n_heads=tuple(layer.n_heads for layer in layers),
        ffn_widths=tuple(layer.ffn_width for layer in layers),
        head_weights=head_weights,
        head_biases=head_biases,
        neuron_weights=neuron_weights,
        neuron_biases=neuron_biases,
        layer_parameters=tuple(_rest(layer) for layer in layers),
        depth=int(config.num_hidden_layers),
        groups=n_containers if architecture.shared else 0,
        queries=binder.queries,
        kinds=tuple(kinds),
        first_pinned=first_pinned,
    )


def _owned(slots: tuple[BoundSlot, ...], count: int) -> tuple[int, int]:
    """Weights and biases of one unit; zeros where no unit is left."""
    if not count:
        return 0, 0
    biases = sum(
        slot.bias.numel() for slot in slots if slot.bias is not None and slot.slot.axis == 0
    )
    bare = sum(slot.weight.numel() for slot in slots if slot.weight.ndim == 1)
    weights = sum(slot.weight.numel() for slot in slots) - bare
    return weights // count, (biases + bare) // count


def _rest(layer: LayerLayout) -> int:
    """Parameters of a layer that belong to no unit."""
    weights, biases = _owned(layer.head_slots, layer.n_heads)
    neurons, neuron_biases = _owned(layer.ffn_slots, layer.ffn_width)
    owned = layer.n_heads * (weights + biases) + layer.ffn_width * (neurons + neuron_biases)
    return sum(p.numel() for p in layer.module.parameters()) - owned
