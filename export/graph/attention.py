"""Attention as one node of ONNX Runtime's own domain, where its fusions miss a family's.

ONNX Runtime's patterns find attention in BERT's shape. Elsewhere the model is made to emit
``com.microsoft::MultiHeadAttention`` while it is traced: through transformers' attention
interface, or by a method of ours in the place of the family's (`export.graph.rewrites`). Each node
carries the head count of its own layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    bidirectional_mask_function,
    eager_mask,
)

from compress.model.binding import bind
from compress.model.layout import child
from export.graph.families import fused_family
from export.graph.nodes import multi_head_attention
from export.graph.rewrites import REWRITES

__all__ = ["eager_attention", "fused_attention"]

_INTERFACE = "compress_export_multi_head"


@contextmanager
def eager_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within the block, attention runs as plain operators, and its mask is made in few of them."""
    with _implementation(model, "eager"), _mask_of("eager", padding_mask):
        yield


def padding_mask(**given: Any) -> Tensor | None:
    """`transformers.masking_utils.eager_mask`, for padding alone without indices of positions.

    transformers looks up each key's place by `GatherND`, two dozen nodes that a small graph feels;
    where nothing but padding is masked, a comparison is enough. Other masks go their way.

    Args:
        given: The mask as transformers gives it.

    Returns:
        Added to the scores, `(batch, 1, sequence, sequence)`.
    """
    mask = given["attention_mask"]
    if mask is None or mask.dim() != 2 or given["mask_function"] is not bidirectional_mask_function:
        return eager_mask(**given)
    lowest, zero = torch.finfo(given["dtype"]).min, torch.zeros((), dtype=given["dtype"])
    bias = torch.where(mask[:, None, None, :].bool(), zero.to(mask.device), lowest)
    return bias.expand(-1, 1, given["q_length"], -1)


@contextmanager
def _mask_of(name: str, function: Any) -> Iterator[None]:
    """Within the block, attention of that name gets its mask from `function`."""
    before = ALL_MASK_ATTENTION_FUNCTIONS[name]
    AttentionMaskInterface.register(name, function)
    try:
        yield
    finally:
        AttentionMaskInterface.register(name, before)


@contextmanager
def fused_attention(model: PreTrainedModel, *, emitted: bool = False) -> Iterator[None]:
    """Within the block, tracing `model` gives attention in the form that can be fused.

    Args:
        model: A model in evaluation mode.
        emitted: Emit `MultiHeadAttention` also where ONNX Runtime's patterns would find the
            family's attention. Its projections then stay matrix products of their own.
    """
    model_type = model.config.model_type
    how = fused_family(model_type).how
    if emitted and how == "pattern":
        how = "rewrite" if model_type in REWRITES else "interface"
    with ExitStack() as stack:
        if how == "interface":
            stack.enter_context(_implementation(model, _INTERFACE))
        else:
            stack.enter_context(eager_attention(model))
        if how == "rewrite":
            rewrite = REWRITES[model_type]
            for layer in bind(model).layers:
                if layer.n_heads:
                    owner = child(layer.module, rewrite.path)
                    stack.enter_context(_in_place(owner, rewrite.method, rewrite.function))
        yield


@contextmanager
def _implementation(model: PreTrainedModel, name: str) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def _in_place(owner: nn.Module, method: str, function: Any) -> Iterator[None]:
    """Within the block, `owner.method` is `function`."""
    setattr(owner, method, partial(function, owner))
    try:
        yield
    finally:
        delattr(owner, method)


def _interface(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """An attention function for transformers, traced as one node.

    Args:
        module: The attention.
        query: `(batch, heads, sequence, head_width)`.
        key: The same, with fewer heads where queries share keys.
        value: Like `key`.
        attention_mask: Added to the scores, `(batch, 1, sequence, sequence)`.
        scaling: Scale of the attention scores.
    """
    shared = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(shared, dim=1) if shared > 1 else t for t in (key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    context = multi_head_attention(query, key, value, attention_mask, scale)
    return context, None


AttentionInterface.register(_INTERFACE, _interface)
AttentionMaskInterface.register(_INTERFACE, padding_mask)
