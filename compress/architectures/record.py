"""The declarative record of one encoder family.

Knows paths, axes and packings as data. Must not know any live model: `compress.model.layout`
binds a record to one and checks every path and shape at the door.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Architecture", "AttentionOutput", "Packing", "Slot", "UnitWidth"]

Packing = Literal["plain", "stacked", "interleaved"]

UnitWidth = Literal["head", "key", "one"]

AttentionOutput = Literal["normed", "sum", "bare"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """One place of a layer whose `axis` runs over heads or over neurons.

    Attributes:
        path: Path from the layer to an `nn.Linear` or to a bare parameter.
        axis: Axis of the weight that runs over units. A linear's bias follows axis 0.
        packing: `plain` (unit after unit), `stacked` (all units of part 1, then of part 2, as in a
            fused q-k-v or a gated FFN) or `interleaved` (all parts of unit 1, then of unit 2).
        parts: How many projections share the axis.
        width: Positions that a head takes on the axis: its whole width (`head`), that of the key
            that its queries share (`key`), or a single one (`one`, where the axis counts heads).
        optional: Some configs of the family leave it out.
    """

    path: str
    axis: int = 0
    packing: Packing = "plain"
    parts: int = 1
    width: UnitWidth = "head"
    optional: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """Where one family keeps its layers, heads and neurons.

    Attributes:
        model_type: The key, as transformers spells it.
        layers: Path from the base model to the layer list; `*` stands for each entry of a list.
        attention: Path from a layer to the attention module, replaced whole when no head is left.
        attention_output: What that module gives: the residual sum after its norm (`normed`, BERT),
            the residual sum (`sum`, XLM-RoBERTa-XL) or its own output (`bare`, DistilBERT).
        heads_in, heads_out, ffn_in, ffn_out: The slots. `heads_out` and `ffn_out` are the output
            projections; their inputs are where heads and neurons can be gated.
        attention_sum, ffn_sum: Path to the module whose *input* is the residual sum after the
            sublayer (the LayerNorm that follows it); empty where the layer's output is that sum.
        leftovers: Modules of a layer that hold parameters of no head and no neuron.
        head_counts, head_widths: Attributes to set to the number of kept heads, and to that number
            times the head width, after surgery.
        width_key: The config attribute that holds the FFN width.
        head_keys: The config attributes that hold head counts, where the family's stock config
            can say fewer heads of the same width (it has a `head_dim`).
        key_heads: The config attribute that counts keys, where several query heads share one; a
            head of the plan is then a key with its queries.
        kinds_key: The config attribute that lists the kind of each layer, where kinds differ
            (ModernBERT's local and global attention).
        shared: One physical layer serves several positions (ALBERT), so that a plan speaks of
            groups and dropping layers means fewer uses.
        first_differs: The stock first layer is built unlike the others, so that no other layer can
            take its place in a stock checkpoint (ModernBERT has no norm there).
        after_first: Path from the base model to a module that is applied after the first layer
            (DeBERTa-v2's convolution), which therefore has to stay.
        shared_bias: Path from a layer to the module that takes one bias per head, computed once
            for all layers, as its third argument (MPNet); each layer then picks its heads' rows.
        context_method: Path from a layer to the method that takes the heads' output as its second
            argument, `(sequence, batch, heads, head_width)`, where no module does (XLNet).
        sequence_first: Layers compute on `(sequence, batch, hidden_size)` (XLNet).
        streams: Hidden states that a layer takes and gives (2: XLNet's query stream).
    """

    model_type: str
    layers: str
    attention: str
    attention_output: AttentionOutput
    heads_in: tuple[Slot, ...]
    heads_out: Slot
    ffn_in: tuple[Slot, ...]
    ffn_out: Slot
    attention_sum: str
    ffn_sum: str
    leftovers: tuple[str, ...]
    head_counts: tuple[str, ...] = ()
    head_widths: tuple[str, ...] = ()
    width_key: str = "intermediate_size"
    head_keys: tuple[str, ...] = ()
    key_heads: str = ""
    kinds_key: str = ""
    shared: bool = False
    first_differs: bool = False
    after_first: str = ""
    shared_bias: str = ""
    context_method: str = ""
    sequence_first: bool = False
    streams: int = 1
