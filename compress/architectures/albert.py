"""ALBERT: one physical layer is used many times, so its units are shared by all uses."""

from __future__ import annotations

from compress.architectures.record import Architecture, Slot

__all__ = ["ALBERT"]

ALBERT = Architecture(
    model_type="albert",
    layers="encoder.albert_layer_groups.*.albert_layers",
    attention="attention",
    attention_output="normed",
    heads_in=(
        Slot(path="attention.query"),
        Slot(path="attention.key"),
        Slot(path="attention.value"),
    ),
    heads_out=Slot(path="attention.dense", axis=1),
    ffn_in=(Slot(path="ffn"),),
    ffn_out=Slot(path="ffn_output", axis=1),
    attention_sum="attention.LayerNorm",
    ffn_sum="full_layer_layer_norm",
    leftovers=("attention.LayerNorm", "full_layer_layer_norm"),
    head_counts=("attention.num_attention_heads",),
    head_widths=("attention.all_head_size",),
    shared=True,
)
