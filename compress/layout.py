"""A record bound to a live model: where its heads, neurons and layers are.

Checks every path and shape at the door, so that nothing past it needs to.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from compress.architectures import Architecture, Slot, architecture_for
from compress.errors import LayoutError
from compress.plan import EncoderShape
from compress.removed import ConstantOutput, RemovedAttention

__all__ = ["LayerLayout", "Layout", "bind", "child", "replace_child"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerLayout:
    """One physical layer of a live model."""

    index: int
    module: nn.Module
    architecture: Architecture
    n_heads: int
    ffn_width: int

    @property
    def heads_out(self) -> nn.Module:
        """The attention's output projection, whose input is `(..., n_heads * head_width)`."""
        if self.n_heads == 0:
            return child(self.module, f"{self.architecture.attention}.output")
        return child(self.module, self.architecture.heads_out.path)

    @property
    def ffn_out(self) -> nn.Module:
        """The FFN's output projection, whose input is `(..., ffn_width)`."""
        return child(self.module, self.architecture.ffn_out.path)

    @property
    def attention_norm(self) -> nn.Module:
        """The module whose input is the residual sum after attention."""
        path, attention = self.architecture.attention_norm, self.architecture.attention
        if self.n_heads == 0 and path.startswith(f"{attention}."):
            return child(self.module, f"{attention}.norm")
        return child(self.module, path)

    @property
    def ffn_norm(self) -> nn.Module:
        """The module whose input is the residual sum after the FFN."""
        return child(self.module, self.architecture.ffn_norm)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """A live model seen as layers, heads and neurons."""

    model: PreTrainedModel
    architecture: Architecture
    containers: tuple[nn.ModuleList, ...]
    layers: tuple[LayerLayout, ...]
    shape: EncoderShape


def bind(model: PreTrainedModel) -> Layout:
    """Bind the family's record to `model`.

    Args:
        model: A transformers encoder, stock or already pruned by this package.

    Returns:
        The layout; its modules are those of `model`.

    Raises:
        UnsupportedArchitectureError: The family has no record.
        LayoutError: A path or shape of the record does not fit the model.
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
    head_width = _head_width(model)
    layers = tuple(
        _bind_layer(index, module, architecture, head_width) for index, module in enumerate(modules)
    )
    return Layout(
        model=model,
        architecture=architecture,
        containers=containers,
        layers=layers,
        shape=_shape(model, architecture, layers, head_width, len(containers)),
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


def _head_width(model: PreTrainedModel) -> int:
    config = model.config
    explicit = getattr(config, "head_dim", None)
    return int(explicit or config.hidden_size // config.num_attention_heads)


def _bind_layer(
    index: int, module: nn.Module, architecture: Architecture, head_width: int
) -> LayerLayout:
    removed_attention = isinstance(child(module, architecture.attention), RemovedAttention)
    removed_ffn = isinstance(child(module, architecture.ffn_out.path), ConstantOutput)
    n_heads = 0 if removed_attention else _units(index, module, architecture.heads_out, head_width)
    ffn_width = 0 if removed_ffn else _units(index, module, architecture.ffn_out, 1)
    if n_heads:
        for slot in architecture.heads_in:
            _check_slot(index, module, slot, n_heads * head_width)
    if ffn_width:
        for slot in architecture.ffn_in:
            _check_slot(index, module, slot, ffn_width)
    layer = LayerLayout(
        index=index,
        module=module,
        architecture=architecture,
        n_heads=n_heads,
        ffn_width=ffn_width,
    )
    _ = layer.attention_norm, layer.ffn_norm
    return layer


def _units(index: int, module: nn.Module, slot: Slot, width: int) -> int:
    size = _weight_size(index, module, slot)
    if size % (width * slot.parts):
        raise LayoutError(
            f"layer {index}: axis {slot.axis} of {slot.path} must be a multiple of the head width "
            f"{width}, found {size}; config.json and weights disagree"
        )
    return size // (width * slot.parts)


def _check_slot(index: int, module: nn.Module, slot: Slot, expected: int) -> None:
    size = _weight_size(index, module, slot)
    if size != expected * slot.parts:
        raise LayoutError(
            f"layer {index}: axis {slot.axis} of {slot.path} must be {expected * slot.parts}, "
            f"found {size}; the layer's projections disagree"
        )


def _weight_size(index: int, module: nn.Module, slot: Slot) -> int:
    linear = child(module, slot.path)
    if not isinstance(linear, nn.Linear):
        raise LayoutError(
            f"layer {index}: {slot.path} must be an nn.Linear, found {type(linear).__name__}; "
            "its record in compress/architectures does not fit"
        )
    return int(linear.weight.shape[slot.axis])


def _shape(
    model: PreTrainedModel,
    architecture: Architecture,
    layers: tuple[LayerLayout, ...],
    head_width: int,
    n_containers: int,
) -> EncoderShape:
    hidden = int(model.config.hidden_size)
    has_bias = _has_bias(layers, architecture)
    heads, ffn = _parts(architecture.heads_in), _parts(architecture.ffn_in)
    norms = sum(
        p.numel()
        for path in architecture.leftovers
        for p in _leftover(layers[0], path).parameters()
    )
    return EncoderShape(
        model_type=architecture.model_type,
        hidden_size=hidden,
        head_width=head_width,
        n_heads=tuple(layer.n_heads for layer in layers),
        ffn_widths=tuple(layer.ffn_width for layer in layers),
        head_weights=(heads + 1) * head_width * hidden,
        head_biases=heads * head_width * has_bias,
        neuron_weights=(ffn + 1) * hidden,
        neuron_biases=ffn * has_bias,
        layer_parameters=norms + 2 * hidden,
        depth=int(model.config.num_hidden_layers),
        groups=n_containers if architecture.shared else 0,
    )


def _parts(slots: tuple[Slot, ...]) -> int:
    return sum(slot.parts for slot in slots)


def _has_bias(layers: tuple[LayerLayout, ...], architecture: Architecture) -> bool:
    """Whether the families' input projections carry biases; read where one is left."""
    for layer in layers:
        for slot, alive in (
            (architecture.heads_in[0], layer.n_heads),
            (architecture.ffn_in[0], layer.ffn_width),
        ):
            if alive:
                return child(layer.module, slot.path).bias is not None
    return True


def _leftover(layer: LayerLayout, path: str) -> nn.Module:
    if path == layer.architecture.attention_norm:
        return layer.attention_norm
    return child(layer.module, path)
