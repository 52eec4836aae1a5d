"""BERT, and the families that differ from it in name only."""

from __future__ import annotations

from dataclasses import replace

from compress.architectures.record import Architecture, Slot

__all__ = [
    "BERT",
    "CAMEMBERT",
    "DATA2VEC_TEXT",
    "ELECTRA",
    "ERNIE",
    "REMBERT",
    "ROBERTA",
    "XLM_ROBERTA",
]

BERT = Architecture(
    model_type="bert",
    layers="encoder.layer",
    attention="attention",
    attention_output="normed",
    heads_in=(
        Slot(path="attention.self.query"),
        Slot(path="attention.self.key"),
        Slot(path="attention.self.value"),
    ),
    heads_out=Slot(path="attention.output.dense", axis=1),
    ffn_in=(Slot(path="intermediate.dense"),),
    ffn_out=Slot(path="output.dense", axis=1),
    attention_sum="attention.output.LayerNorm",
    ffn_sum="output.LayerNorm",
    leftovers=("attention.output.LayerNorm", "output.LayerNorm"),
    head_counts=("attention.self.num_attention_heads",),
    head_widths=("attention.self.all_head_size",),
)

ROBERTA = replace(BERT, model_type="roberta")
XLM_ROBERTA = replace(BERT, model_type="xlm-roberta")
CAMEMBERT = replace(BERT, model_type="camembert")
ELECTRA = replace(BERT, model_type="electra")
ERNIE = replace(BERT, model_type="ernie")
DATA2VEC_TEXT = replace(BERT, model_type="data2vec-text")
REMBERT = replace(BERT, model_type="rembert")
