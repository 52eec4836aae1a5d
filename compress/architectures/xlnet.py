"""XLNet: bare parameters with an axis for heads, two streams, sequence before batch."""

from __future__ import annotations

from compress.architectures.record import Architecture, Slot

__all__ = ["XLNET"]

XLNET = Architecture(
    model_type="xlnet",
    layers="layer",
    attention="rel_attn",
    attention_output="normed",
    heads_in=(
        *(Slot(path=f"rel_attn.{name}", axis=1, width="one") for name in ("q", "k", "v", "r")),
        Slot(path="rel_attn.seg_embed", axis=1, width="one"),
        *(Slot(path=f"rel_attn.r_{name}_bias", width="one") for name in ("r", "s", "w")),
    ),
    heads_out=Slot(path="rel_attn.o", axis=1, width="one"),
    ffn_in=(Slot(path="ff.layer_1"),),
    ffn_out=Slot(path="ff.layer_2", axis=1),
    attention_sum="rel_attn.layer_norm",
    ffn_sum="ff.layer_norm",
    leftovers=("rel_attn.layer_norm", "ff.layer_norm"),
    head_counts=("rel_attn.n_head",),
    width_key="d_inner",
    context_method="rel_attn.post_attention",
    sequence_first=True,
    streams=2,
)
