"""Attention of the families that do not use transformers' attention interface, as one node.

Each function takes the place of one method of the family's attention while it is traced. What it
computes is the family's own arithmetic; only the scores' softmax and its product are one node,
and whatever the family adds to the scores becomes that node's bias.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from export.graph.nodes import multi_head_attention

__all__ = ["REWRITES", "Rewrite"]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One method to replace.

    Attributes:
        path: Path from a layer to the module that has it.
        method: Its name.
        function: Called with the module first.
    """

    path: str
    method: str
    function: Callable[..., Any]


def _bert(
    module: Any, hidden_states: Tensor, attention_mask: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, None]:
    """``BertSelfAttention.forward``, as RemBERT and Megatron-BERT spell it out."""
    query, key, value = (
        _split(project(hidden_states), module.num_attention_heads)
        for project in (module.query, module.key, module.value)
    )
    scale = module.attention_head_size**-0.5
    return multi_head_attention(query, key, value, attention_mask, scale).flatten(2), None


def _mpnet(
    module: Any,
    hidden_states: Tensor,
    attention_mask: Tensor,
    position_bias: Tensor,
    output_attentions: bool = False,
) -> tuple[Tensor]:
    """``MPNetSelfAttention.forward``: one relative position bias for all layers."""
    query, key, value = (
        _split(project(hidden_states), module.num_attention_heads)
        for project in (module.q, module.k, module.v)
    )
    scale = module.attention_head_size**-0.5
    context = multi_head_attention(query, key, value, position_bias + attention_mask, scale)
    return (module.o(context.flatten(2)),)


def _deberta(
    module: Any,
    hidden_states: Tensor,
    attention_mask: Tensor,
    *_: Any,
    relative_pos: Tensor | None,
    rel_embeddings: Tensor | None,
    **__: Any,
) -> tuple[Tensor, None]:
    """``DisentangledSelfAttention.forward`` of DeBERTa: He et al. 2021, eq. 4."""
    joined = _split(module.in_proj(hidden_states), module.num_attention_heads)
    query, key, value = joined.chunk(3, dim=-1)
    query = query + _split(module.q_bias[None, None], module.num_attention_heads)
    value = value + _split(module.v_bias[None, None], module.num_attention_heads)
    factor = 1 + len(module.pos_att_type)
    query = query / (query.shape[-1] * factor) ** 0.5
    relative = (
        module.disentangled_att_bias(query, key, relative_pos, rel_embeddings, factor)
        if module.relative_attention
        else None
    )
    bias = _masking(attention_mask, relative, query.dtype)
    return multi_head_attention(query, key, value, bias, 1.0).flatten(2), None


def _deberta_v2(
    module: Any,
    hidden_states: Tensor,
    attention_mask: Tensor,
    *_: Any,
    relative_pos: Tensor | None,
    rel_embeddings: Tensor | None,
    **__: Any,
) -> tuple[Tensor, None]:
    """``DisentangledSelfAttention.forward`` of DeBERTa-v2; it folds heads into the batch."""
    heads = module.num_attention_heads
    query, key, value = (
        _split(project(hidden_states), heads)
        for project in (module.query_proj, module.key_proj, module.value_proj)
    )
    factor = 1 + sum(kind in module.pos_att_type for kind in ("c2p", "p2c"))
    relative = None
    if module.relative_attention:
        folded = module.disentangled_attention_bias(
            query.flatten(0, 1), key.flatten(0, 1), relative_pos, rel_embeddings, factor
        )
        relative = folded.unflatten(0, (-1, heads))
    bias = _masking(attention_mask, relative, query.dtype)
    scale = (query.shape[-1] * factor) ** -0.5
    return multi_head_attention(query, key, value, bias, scale).flatten(2), None


def _xlnet(
    module: Any,
    q_head: Tensor,
    k_head_h: Tensor,
    v_head_h: Tensor,
    k_head_r: Tensor,
    seg_mat: Tensor | None = None,
    attn_mask: Tensor | None = None,
    output_attentions: bool = False,
) -> Tensor:
    """``XLNetRelativeAttention.rel_attn_core``, on `(sequence, batch, heads, head_width)`."""
    bias = torch.einsum("ibnd,jbnd->bnij", q_head + module.r_r_bias, k_head_r)
    bias = module.rel_shift_bnij(bias, klen=k_head_h.shape[0])
    if seg_mat is not None:
        segment = torch.einsum("ibnd,snd->ibns", q_head + module.r_s_bias, module.seg_embed)
        bias = bias + torch.einsum("ijbs,ibns->bnij", seg_mat, segment)
    bias = bias * module.scale
    if attn_mask is not None:
        lowest = 65500 if attn_mask.dtype == torch.float16 else 1e30
        bias = bias - lowest * attn_mask.permute(2, 3, 0, 1)
    query, key, value = (
        t.permute(1, 2, 0, 3) for t in (q_head + module.r_w_bias, k_head_h, v_head_h)
    )
    context: Tensor = multi_head_attention(query, key, value, bias, module.scale).transpose(0, 1)
    return context


def _split(projected: Tensor, heads: int) -> Tensor:
    """`(batch, sequence, heads * width)` as `(batch, heads, sequence, width)`."""
    split: Tensor = projected.unflatten(-1, (heads, -1))
    return split.transpose(1, 2)


def _masking(mask: Tensor, relative: Tensor | None, dtype: torch.dtype) -> Tensor:
    """What is added to the scores; half the lowest value, so that the sum stays finite."""
    bias = (~mask.bool()).to(dtype) * (torch.finfo(dtype).min / 2)
    return bias if relative is None else relative + bias


REWRITES: dict[str, Rewrite] = {
    "rembert": Rewrite("attention.self", "forward", _bert),
    "megatron-bert": Rewrite("attention.self", "forward", _bert),
    "mpnet": Rewrite("attention.attn", "forward", _mpnet),
    "deberta": Rewrite("attention.self", "forward", _deberta),
    "deberta-v2": Rewrite("attention.self", "forward", _deberta_v2),
    "xlnet": Rewrite("rel_attn", "rel_attn_core", _xlnet),
}
