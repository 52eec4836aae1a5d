"""Apply a plan: what it does not keep is physically gone afterwards.

Knows slots and modules; must not know why a unit goes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.architectures import Slot
from compress.errors import LayoutError, PlanError
from compress.model.binding import bind
from compress.model.layout import BoundSlot, LayerLayout, Layout, child, replace_child
from compress.model.removed import ConstantOutput, RemovedAttention
from compress.model.shared_bias import pick_rows_
from compress.plan.plan import EncoderShape, LayerPlan, Plan
from compress.plan.stock_config import update_config_

__all__ = ["apply_", "prune_layer_", "sum_by_unit", "unit_indices"]


def apply_(model: PreTrainedModel, plan: Plan) -> None:
    """Remove from `model`, in place, everything that `plan` does not keep.

    The weights of kept units are copied, never recomputed, so the result equals the model with
    the other units masked out. `config` is brought in line where stock attributes can say it
    (depth, layer kinds; FFN width and, in some families, heads where they agree in all layers).

    Raises:
        PlanError: The plan is of a model of another shape.
    """
    layout = bind(model)
    if not layout.shape.fits(plan.shape):
        raise PlanError(
            f"the plan is of a {plan.shape.model_type} with heads {plan.shape.n_heads} and FFN "
            f"widths {plan.shape.ffn_widths}, found {layout.shape.model_type} with "
            f"{layout.shape.n_heads} and {layout.shape.ffn_widths}; apply it to its own model"
        )
    for layer_plan in plan.layers:
        prune_layer_(layout, layout.layers[layer_plan.source], layer_plan)
    _drop_layers(layout, plan)
    update_config_(model.config, layout.architecture, plan)


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


def sum_by_unit(values: Tensor, width: int, count: int, slot: Slot) -> Tensor:
    """Sum `values`, one per position along a slot's axis, over what each unit owns: `(count,)`."""
    if slot.packing == "interleaved":
        return values.view(count, -1).sum(1)
    return values.view(slot.parts, count, width).sum((0, 2))


def prune_layer_(layout: Layout, layer: LayerLayout, plan: LayerPlan) -> None:
    """Remove from one layer, in place, what its plan does not keep."""
    if len(plan.heads) < layer.n_heads:
        _prune_heads(layer, plan.heads, layout.shape)
    if len(plan.neurons) < layer.ffn_width:
        _prune_neurons(layer, plan.neurons, layout.shape.hidden_size)


def _prune_heads(layer: LayerLayout, keep: tuple[int, ...], shape: EncoderShape) -> None:
    architecture, module = layer.architecture, layer.module
    if not keep:
        _remove_attention(layer, shape.hidden_size)
        return
    for bound in layer.attention.slots:
        _select_(bound, keep, layer.n_heads)
    for path in architecture.head_counts:
        _set_attribute(module, path, len(keep))
    for path in architecture.head_widths:
        _set_attribute(module, path, len(keep) * shape.head_width)
    if architecture.shared_bias:
        pick_rows_(child(module, architecture.shared_bias), keep)


def _remove_attention(layer: LayerLayout, hidden_size: int) -> None:
    architecture = layer.architecture
    removed = RemovedAttention(
        ConstantOutput(hidden_size, layer.attention.projection[1]),
        architecture.attention_output,
        layer.attention.norm,
        architecture.streams,
    )
    replace_child(layer.module, architecture.attention, removed.train(layer.module.training))


def _prune_neurons(layer: LayerLayout, keep: tuple[int, ...], hidden_size: int) -> None:
    architecture, module = layer.architecture, layer.module
    if not keep:
        bias = layer.ffn.projection[1]
        for slot in architecture.ffn_in:
            replace_child(module, slot.path, nn.Identity())
        replace_child(module, architecture.ffn_out.path, ConstantOutput(hidden_size, bias))
        return
    for bound in layer.ffn.slots:
        _select_(bound, keep, layer.ffn_width)


def _drop_layers(layout: Layout, plan: Plan) -> None:
    if layout.architecture.shared:
        return
    (container,) = layout.containers
    kept = [layout.layers[layer.source].module for layer in plan.layers]
    del container[:]
    container.extend(kept)


def _select_(bound: BoundSlot, keep: tuple[int, ...], count: int) -> None:
    """Keep only the units `keep`, of `count`, on the slot's axis."""
    index = unit_indices(keep, bound.width, count, bound.slot).to(bound.weight.device)
    for name, axis in list(bound.parameters):
        parameter = getattr(bound.owner, name)
        chosen = parameter.detach().index_select(axis, index).contiguous()
        kept = nn.Parameter(chosen, requires_grad=parameter.requires_grad)
        setattr(bound.owner, name, kept)
    if isinstance(bound.owner, nn.Linear):
        bound.owner.out_features, bound.owner.in_features = bound.owner.weight.shape


def _set_attribute(module: nn.Module, path: str, value: int) -> None:
    parent, _, name = path.rpartition(".")
    owner = child(module, parent)
    if not hasattr(owner, name):
        raise LayoutError(f"{type(owner).__name__} must have the attribute {name!r}, found none")
    setattr(owner, name, value)
