"""The declarative record of one encoder family.

Knows paths, axes and packings as data. Must not know any live model: `compress.layout` binds a
record to one and checks every path and shape at the door.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

__all__ = ["Architecture", "Packing", "Slot"]

Packing = Literal["plain", "stacked", "interleaved"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """One place of a layer whose `axis` runs over heads or over neurons.

    Attributes:
        path: From the layer to an `nn.Linear` or to a bare parameter.
        axis: Axis of the weight that runs over units. A linear's bias follows axis 0.
        packing: `plain` (unit after unit), `stacked` (all units of part 1, then of part 2, as in a
            fused q-k-v or a gated FFN) or `interleaved` (all parts of unit 1, then of unit 2).
        parts: How many projections share the axis.
    """

    path: str
    axis: int = 0
    packing: Packing = "plain"
    parts: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """Where one family keeps its layers, heads and neurons.

    Attributes:
        model_type: The key, as transformers spells it.
        layers: Path from the base model to the layer list; `*` stands for each entry of a list.
        attention: Path from a layer to the attention module, replaced whole when no head is left.
        heads_in, heads_out, ffn_in, ffn_out: The slots. `heads_out` and `ffn_out` are the output
            projections; their inputs are where heads and neurons can be gated.
        attention_norm, ffn_norm: Path to the module whose *input* is the residual sum after the
            sublayer (the LayerNorm of a post-LN layer).
        leftovers: Modules of a layer that hold parameters of no head and no neuron.
        head_counts, head_widths: Attributes to set to the number of kept heads, and to that number
            times the head width, after surgery.
        width_key: The config attribute that holds the FFN width.
        shared: One physical layer serves several positions (ALBERT), so that a plan speaks of
            groups and dropping layers means fewer uses.
        adjust: For the family that does not fit: called with each layer and its kept heads.
    """

    model_type: str
    layers: str
    attention: str
    heads_in: tuple[Slot, ...]
    heads_out: Slot
    ffn_in: tuple[Slot, ...]
    ffn_out: Slot
    attention_norm: str
    ffn_norm: str
    leftovers: tuple[str, ...]
    head_counts: tuple[str, ...] = ()
    head_widths: tuple[str, ...] = ()
    width_key: str = "intermediate_size"
    shared: bool = False
    adjust: Callable[[nn.Module, tuple[int, ...]], None] | None = None
