"""ModernBERT: rotary, local and global attention by turns, gated FFN, norms before sublayers."""

from __future__ import annotations

from compress.architectures.record import Architecture, Slot

__all__ = ["MODERNBERT"]

MODERNBERT = Architecture(
    model_type="modernbert",
    layers="layers",
    attention="attn",
    attention_output="bare",
    heads_in=(Slot(path="attn.Wqkv", packing="stacked", parts=3),),
    heads_out=Slot(path="attn.Wo", axis=1),
    ffn_in=(Slot(path="mlp.Wi", packing="stacked", parts=2),),
    ffn_out=Slot(path="mlp.Wo", axis=1),
    attention_sum="mlp_norm",
    ffn_sum="",
    leftovers=("attn_norm", "mlp_norm"),
    kinds_key="layer_types",
    first_differs=True,
)
