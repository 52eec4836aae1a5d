"""BERT-like families whose norms stand before the sublayers."""

from __future__ import annotations

from dataclasses import replace

from compress.architectures.bert import BERT
from compress.architectures.record import Architecture

__all__ = ["MEGATRON_BERT", "ROBERTA_PRELAYERNORM", "XLM_ROBERTA_XL"]


def _prenorm(model_type: str, attention_norm: str, ffn_norm: str) -> Architecture:
    return replace(
        BERT,
        model_type=model_type,
        attention_output="sum",
        attention_sum=ffn_norm,
        ffn_sum="",
        leftovers=(attention_norm, ffn_norm),
    )


XLM_ROBERTA_XL = _prenorm("xlm-roberta-xl", "attention.self_attn_layer_norm", "LayerNorm")
ROBERTA_PRELAYERNORM = _prenorm(
    "roberta-prelayernorm", "attention.LayerNorm", "intermediate.LayerNorm"
)
MEGATRON_BERT = _prenorm("megatron-bert", "attention.ln", "ln")
