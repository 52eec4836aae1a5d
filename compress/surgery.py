"""Apply a plan: what it does not keep is physically gone afterwards.

Knows slots and modules; must not know why a unit goes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.architectures import Slot
from compress.errors import PlanError
from compress.layout import LayerLayout, Layout, bind, child, replace_child
from compress.plan import LayerPlan, Plan
from compress.removed import ConstantOutput, RemovedAttention

__all__ = ["apply_", "unit_indices"]


def apply_(model: PreTrainedModel, plan: Plan) -> None:
    """Remove from `model`, in place, everything that `plan` does not keep.

    The weights of kept units are copied, never recomputed, so the result equals the model with
    the other units masked out. `config` is brought in line where stock attributes can say it
    (`num_hidden_layers`, and the FFN width where all widths agree).

    Raises:
        PlanError: The plan is of a model of another shape.
    """
    layout = bind(model)
    if layout.shape != plan.shape:
        raise PlanError(
            f"the plan is of a {plan.shape.model_type} with heads {plan.shape.n_heads} and FFN "
            f"widths {plan.shape.ffn_widths}, found {layout.shape.model_type} with "
            f"{layout.shape.n_heads} and {layout.shape.ffn_widths}; apply it to its own model"
        )
    for layer_plan in plan.layers:
        _prune_layer(layout, layout.layers[layer_plan.source], layer_plan)
    _drop_layers(layout, plan)


def unit_indices(keep: tuple[int, ...], width: int, count: int, slot: Slot) -> Tensor:
    """Positions along a slot's axis of the units in `keep`.

    Args:
        keep: Kept units, rising.
        width: Positions that one unit takes in one part (the head width; 1 for neurons).
        count: Units before pruning.
        slot: Says how parts are packed.

    Returns:
        Positions: `(parts * len(keep) * width,)`, int64.

    Example:
        >>> unit_indices((1,), 2, 3, Slot(path="q"))
        tensor([2, 3])
        >>> unit_indices((1,), 2, 3, Slot(path="qkv", packing="stacked", parts=2))
        tensor([2, 3, 8, 9])
        >>> unit_indices((1,), 2, 3, Slot(path="qkv", packing="interleaved", parts=2))
        tensor([4, 5, 6, 7])
    """
    positions = torch.arange(count * width * slot.parts)
    units = torch.tensor(keep, dtype=torch.long)
    if slot.packing == "interleaved":
        return positions.view(count, slot.parts * width)[units].reshape(-1)
    return positions.view(slot.parts, count, width)[:, units].reshape(-1)


def _prune_layer(layout: Layout, layer: LayerLayout, plan: LayerPlan) -> None:
    if len(plan.heads) < layer.n_heads:
        _prune_heads(layer, plan.heads, layout.shape.head_width)
    if len(plan.neurons) < layer.ffn_width:
        _prune_neurons(layer, plan.neurons)


def _prune_heads(layer: LayerLayout, keep: tuple[int, ...], head_width: int) -> None:
    architecture, module = layer.architecture, layer.module
    if not keep:
        _remove_attention(layer)
        return
    for slot in (*architecture.heads_in, architecture.heads_out):
        index = unit_indices(keep, head_width, layer.n_heads, slot)
        _select_(_linear(module, slot), slot.axis, index)
    for path in architecture.head_counts:
        _set_attribute(module, path, len(keep))
    for path in architecture.head_widths:
        _set_attribute(module, path, len(keep) * head_width)
    if architecture.adjust:
        architecture.adjust(module, keep)


def _remove_attention(layer: LayerLayout) -> None:
    architecture, module = layer.architecture, layer.module
    inside = architecture.attention_norm.startswith(f"{architecture.attention}.")
    norm = layer.attention_norm if inside else None
    bias = _output_bias(_linear(module, architecture.heads_out))
    replace_child(module, architecture.attention, RemovedAttention(bias, norm))


def _prune_neurons(layer: LayerLayout, keep: tuple[int, ...]) -> None:
    architecture, module = layer.architecture, layer.module
    if not keep:
        bias = _output_bias(_linear(module, architecture.ffn_out))
        for slot in architecture.ffn_in:
            replace_child(module, slot.path, nn.Identity())
        replace_child(module, architecture.ffn_out.path, ConstantOutput(bias))
        return
    for slot in (*architecture.ffn_in, architecture.ffn_out):
        index = unit_indices(keep, 1, layer.ffn_width, slot)
        _select_(_linear(module, slot), slot.axis, index)


def _drop_layers(layout: Layout, plan: Plan) -> None:
    config = layout.model.config
    if not layout.architecture.shared:
        (container,) = layout.containers
        kept = [layout.layers[layer.source].module for layer in plan.layers]
        del container[:]
        container.extend(kept)
    config.num_hidden_layers = plan.depth
    if plan.is_stock_shaped:
        setattr(config, layout.architecture.width_key, len(plan.layers[0].neurons))


def _linear(module: nn.Module, slot: Slot) -> nn.Linear:
    linear = child(module, slot.path)
    assert isinstance(linear, nn.Linear)  # `bind` has checked it
    return linear


def _output_bias(linear: nn.Linear) -> Tensor:
    return linear.bias if linear.bias is not None else linear.weight.new_zeros(linear.out_features)


def _select_(linear: nn.Linear, axis: int, index: Tensor) -> None:
    index = index.to(linear.weight.device)
    linear.weight = _selected(linear.weight, axis, index)
    if axis == 0 and linear.bias is not None:
        linear.bias = _selected(linear.bias, 0, index)
    linear.out_features, linear.in_features = linear.weight.shape


def _selected(parameter: Tensor, axis: int, index: Tensor) -> nn.Parameter:
    chosen = parameter.detach().index_select(axis, index).contiguous()
    return nn.Parameter(chosen, requires_grad=parameter.requires_grad)


def _set_attribute(module: nn.Module, path: str, value: int) -> None:
    parent, _, name = path.rpartition(".")
    owner = child(module, parent)
    if not hasattr(owner, name):
        raise PlanError(f"{type(owner).__name__} must have the attribute {name!r}, found none")
    setattr(owner, name, value)
