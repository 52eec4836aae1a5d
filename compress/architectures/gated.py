"""Families with rotary attention whose config names the head width, so that heads may be fewer."""

from __future__ import annotations

from dataclasses import replace

from compress.architectures.record import Architecture, Slot

__all__ = ["EUROBERT", "JINA_EMBEDDINGS_V3", "NOMIC_BERT"]

NOMIC_BERT = Architecture(
    model_type="nomic_bert",
    layers="layers",
    attention="self_attn",
    attention_output="bare",
    heads_in=(
        Slot(path="self_attn.q_proj"),
        Slot(path="self_attn.k_proj"),
        Slot(path="self_attn.v_proj"),
    ),
    heads_out=Slot(path="self_attn.o_proj", axis=1),
    ffn_in=(Slot(path="mlp.gate_proj"), Slot(path="mlp.up_proj")),
    ffn_out=Slot(path="mlp.down_proj", axis=1),
    attention_sum="post_attention_layernorm",
    ffn_sum="post_mlp_layernorm",
    leftovers=("post_attention_layernorm", "post_mlp_layernorm"),
    head_keys=("num_attention_heads",),
)

JINA_EMBEDDINGS_V3 = replace(
    NOMIC_BERT,
    model_type="jina_embeddings_v3",
    ffn_in=(Slot(path="mlp.fc1"),),
    ffn_out=Slot(path="mlp.fc2", axis=1),
)

EUROBERT = replace(
    NOMIC_BERT,
    model_type="eurobert",
    heads_in=(
        Slot(path="self_attn.q_proj"),
        Slot(path="self_attn.k_proj", width="key"),
        Slot(path="self_attn.v_proj", width="key"),
    ),
    attention_sum="post_attention_layernorm",
    ffn_sum="",
    leftovers=("input_layernorm", "post_attention_layernorm"),
    head_keys=("num_attention_heads", "num_key_value_heads"),
    key_heads="num_key_value_heads",
)
