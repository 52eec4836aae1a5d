"""DistilBERT: the LayerNorm after attention belongs to the layer, not to the attention."""

from __future__ import annotations

from compress.architectures.record import Architecture, Slot

__all__ = ["DISTILBERT"]

DISTILBERT = Architecture(
    model_type="distilbert",
    layers="transformer.layer",
    attention="attention",
    attention_output="bare",
    heads_in=(
        Slot(path="attention.q_lin"),
        Slot(path="attention.k_lin"),
        Slot(path="attention.v_lin"),
    ),
    heads_out=Slot(path="attention.out_lin", axis=1),
    ffn_in=(Slot(path="ffn.lin1"),),
    ffn_out=Slot(path="ffn.lin2", axis=1),
    attention_sum="sa_layer_norm",
    ffn_sum="output_layer_norm",
    leftovers=("sa_layer_norm", "output_layer_norm"),
    head_counts=("attention.n_heads",),
    head_widths=("attention.dim",),
    width_key="hidden_dim",
)
