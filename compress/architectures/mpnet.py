"""MPNet: one relative position bias per head, computed once and added in every layer."""

from __future__ import annotations

from dataclasses import replace

from compress.architectures.bert import BERT
from compress.architectures.record import Slot

__all__ = ["MPNET"]

MPNET = replace(
    BERT,
    model_type="mpnet",
    heads_in=(
        Slot(path="attention.attn.q"),
        Slot(path="attention.attn.k"),
        Slot(path="attention.attn.v"),
    ),
    heads_out=Slot(path="attention.attn.o", axis=1),
    attention_sum="attention.LayerNorm",
    leftovers=("attention.LayerNorm", "output.LayerNorm"),
    head_counts=("attention.attn.num_attention_heads",),
    head_widths=("attention.attn.all_head_size",),
    shared_bias="attention.attn",
)
