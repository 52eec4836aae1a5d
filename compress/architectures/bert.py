"""BERT, and the families that differ from it in name only."""

from __future__ import annotations

from dataclasses import replace

from compress.architectures.record import Architecture, Slot

__all__ = ["BERT", "ELECTRA", "ROBERTA"]

BERT = Architecture(
    model_type="bert",
    layers="encoder.layer",
    attention="attention",
    heads_in=(
        Slot(path="attention.self.query"),
        Slot(path="attention.self.key"),
        Slot(path="attention.self.value"),
    ),
    heads_out=Slot(path="attention.output.dense", axis=1),
    ffn_in=(Slot(path="intermediate.dense"),),
    ffn_out=Slot(path="output.dense", axis=1),
    attention_norm="attention.output.LayerNorm",
    ffn_norm="output.LayerNorm",
    leftovers=("attention.output.LayerNorm", "output.LayerNorm"),
    head_counts=("attention.self.num_attention_heads",),
    head_widths=("attention.self.all_head_size",),
)

ROBERTA = replace(BERT, model_type="roberta")
ELECTRA = replace(BERT, model_type="electra")
