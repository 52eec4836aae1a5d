"""Bind a family's record to a live model, and refuse at the door what does not fit."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from compress.architectures import Architecture, Slot, architecture_for
from compress.errors import LayoutError
from compress.model.layout import (
    BoundSlot,
    LayerLayout,
    Layout,
    Sublayer,
    SublayerName,
    child,
)
from compress.model.removed import ConstantOutput, RemovedAttention
from compress.model.task_head import stock_class
from compress.plan.plan import EncoderShape

__all__ = ["bind"]

_HEAD_SIZE_KEYS = ("head_dim", "d_head", "attention_head_size")


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
    if getattr(model.config, "chunk_size_feed_forward", 0):
        raise LayoutError(
            "config.chunk_size_feed_forward must be 0, found "
            f"{model.config.chunk_size_feed_forward}: chunks hide what passes an FFN; set it to 0, "
            "which changes memory and no output"
        )
    if stock_class(model) is not type(model):
        raise LayoutError(
            f"model must be of a class of transformers, found {type(model).__name__}, which its "
            "checkpoint's own code defines; load it with compress.load"
        )
    containers = _containers(model.base_model, architecture.layers)
    modules = [layer for container in containers for layer in container]
    if not modules:
        raise LayoutError(f"{architecture.layers} must hold at least one layer, found none")
    queries_per_kv_head = _queries(model.config, architecture)
    binder = _Binder(
        architecture, _head_size(model.config) * queries_per_kv_head, queries_per_kv_head
    )
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

    `head_width` is that of a head with all its queries, `queries_per_kv_head` of them.
    """

    architecture: Architecture
    head_width: int
    queries_per_kv_head: int

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
            attention=self._sublayer("attention", module, self.head_width, heads),
            ffn=self._sublayer("ffn", module, 1, ffn),
        )
        _ = layer.attention.summing, layer.ffn.summing
        self._check_leftovers(layer)
        return layer

    def _sublayer(
        self, name: SublayerName, module: nn.Module, width: int, slots: tuple[BoundSlot, ...]
    ) -> Sublayer:
        return Sublayer(
            name=name,
            module=module,
            architecture=self.architecture,
            unit_width=width,
            n_units=_count(slots),
            slots=slots,
        )

    def _heads(self, index: int, module: nn.Module) -> tuple[BoundSlot, ...]:
        widths = {
            "head": self.head_width,
            "key": self.head_width // self.queries_per_kv_head,
            "one": 1,
        }
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
        owned = {id(part) for slot in layer.slots for part in (slot.weight, slot.bias)}
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


def _bound(index: int, module: nn.Module, slot: Slot, widths: dict[str, int]) -> BoundSlot | None:
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
    head_weights, head_biases = _owned(max((x.attention for x in layers), key=_n_units))
    neuron_weights, neuron_biases = _owned(max((x.ffn for x in layers), key=_n_units))
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
        queries_per_kv_head=binder.queries_per_kv_head,
        kinds=tuple(kinds),
        first_pinned=first_pinned,
    )


def _n_units(sublayer: Sublayer) -> int:
    return sublayer.n_units


def _owned(sublayer: Sublayer) -> tuple[int, int]:
    """Weights and biases of one unit; zeros where no unit is left."""
    slots, count = sublayer.slots, sublayer.n_units
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
    owned = sum(sublayer.n_units * sum(_owned(sublayer)) for sublayer in layer.sublayers)
    return sum(p.numel() for p in layer.module.parameters()) - owned
