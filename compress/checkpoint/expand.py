"""A pruned model back in stock shapes, zeros where units are gone: for tools that take no others.

Nothing is gained in speed or size; what the model computes stays the same.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compress.architectures import Architecture
from compress.checkpoint.stored_plan import BLOCK, stored_plan
from compress.checkpoint.tokenizer import save_tokenizer
from compress.checkpoint.verify import compare_outputs
from compress.errors import PlanError
from compress.files.folder import writing
from compress.model.binding import bind
from compress.model.layout import LayerLayout, Sublayer, child
from compress.model.surgery import unit_indices
from compress.model.task_head import init_arguments, stock_class
from compress.plan.plan import LayerPlan, Plan
from compress.plan.stock_config import update_config_

__all__ = ["expand", "save_expanded"]

_NOTHING: tuple[int, ...] = ()


def expand(model: PreTrainedModel, plan: Plan | None = None) -> PreTrainedModel:
    """The model in its family's stock shape, kept units in their places and zeros elsewhere.

    Dropped layers stay dropped, but for a first layer that the stock class builds unlike the
    others (ModernBERT): it comes back as one that adds nothing.

    Args:
        model: A pruned model; left as it is.
        plan: How it was pruned. Default: the plan that its config carries.

    Returns:
        A stock model with equal outputs, in evaluation mode.

    Raises:
        PlanError: The model carries no plan, or one that is not its own.
    """
    plan = plan or stored_plan(model.config)
    if plan is None:
        raise PlanError(
            "expand needs a pruned model, found one without a plan in its config; "
            "it is in stock shapes already"
        )
    source = bind(model)
    if not source.shape.fits(plan.student_shape):
        raise PlanError(
            f"the plan must be the model's own, with heads {plan.student_shape.n_heads}, found a "
            f"model with {source.shape.n_heads}; save the model first, or give the whole plan"
        )
    layers = _stock_layers(source.architecture, plan)
    stock = _stock(model, source.architecture, plan, layers)
    target = bind(stock)
    inside = {id(p) for layer in source.layers for p in layer.module.parameters()}
    outside = model.state_dict(keep_vars=True).items()
    survivors = {layer.source: source.layers[i] for i, layer in enumerate(plan.layers)}
    with torch.no_grad():
        stock.load_state_dict({k: v for k, v in outside if id(v) not in inside}, strict=False)
        for layer, layer_plan in zip(target.layers, layers, strict=True):
            _fill_(layer, survivors.get(layer_plan.source), layer_plan)
    stock.eval()
    return stock


def save_expanded(
    model: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase | None = None
) -> None:
    """Write `expand(model)` as a checkpoint that plain `from_pretrained` loads.

    Args:
        model: A pruned model that carries its plan.
        folder: Appears when it is complete.
        tokenizer: Saved beside the weights.

    Raises:
        PlanError: The model carries no plan.
        VerificationError: Loaded again, it gives other outputs; nothing is left behind.
    """
    stock = expand(model)
    with writing(folder, "checkpoint") as temporary:
        stock.save_pretrained(temporary)
        if tokenizer is not None:
            save_tokenizer(tokenizer, temporary)
        arguments = init_arguments(stock)
        loaded = type(stock).from_pretrained(str(temporary), dtype=torch.float32, **arguments)
        compare_outputs("from_pretrained", loaded, model)


def _stock_layers(architecture: Architecture, plan: Plan) -> tuple[LayerPlan, ...]:
    if not architecture.first_differs or plan.layers[0].source == 0:
        return plan.layers
    return (LayerPlan(source=0, heads=_NOTHING, neurons=_NOTHING), *plan.layers)


def _stock(
    model: PreTrainedModel, architecture: Architecture, plan: Plan, layers: tuple[LayerPlan, ...]
) -> PreTrainedModel:
    """An unpruned model of that many layers, its weights not set."""
    full = Plan.full(plan.shape)
    whole = tuple(full.layers[layer.source] for layer in layers)
    depth = plan.depth + len(layers) - len(plan.layers)
    config = copy.deepcopy(model.config)
    for name in (BLOCK, "auto_map"):
        if hasattr(config, name):
            delattr(config, name)
    update_config_(config, architecture, Plan(shape=plan.shape, layers=whole, depth=depth))
    return stock_class(model)(config, **init_arguments(model))


def _fill_(target: LayerLayout, source: LayerLayout | None, plan: LayerPlan) -> None:
    """Copy what is left of a layer to its places in a stock one."""
    for index, keep in enumerate((plan.heads, plan.neurons)):
        kept = source.sublayers[index] if source else None
        _scatter_(target.sublayers[index], kept, keep)
        _copy_output_bias_(target.sublayers[index], kept)
    if source is not None:
        _copy_leftovers_(target, source)


def _scatter_(target: Sublayer, source: Sublayer | None, keep: tuple[int, ...]) -> None:
    found = {bound.slot.path: bound for bound in (source.slots if source else ())}
    for bound in target.slots:
        index = unit_indices(keep, bound.width, target.n_units, bound.slot)
        for name, axis in bound.parameters:
            parameter = getattr(bound.owner, name)
            parameter.zero_()
            if found:
                values = getattr(found[bound.slot.path].owner, name)
                parameter.index_copy_(axis, index, values.to(parameter))


def _copy_output_bias_(target: Sublayer, source: Sublayer | None) -> None:
    _, bias = target.projection
    if bias is None:
        return
    bias.zero_()
    kept = source.projection[1] if source else None
    if kept is not None:
        bias.copy_(kept)


def _copy_leftovers_(target: LayerLayout, source: LayerLayout) -> None:
    architecture = target.architecture
    for path in architecture.leftovers:
        inside = path.startswith(f"{architecture.attention}.") and source.n_heads == 0
        kept = source.attention.norm if inside else child(source.module, path)
        if kept is not None:
            child(target.module, path).load_state_dict(kept.state_dict())
