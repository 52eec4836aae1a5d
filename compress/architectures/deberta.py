"""DeBERTa: disentangled attention, whose position projections have heads too."""

from __future__ import annotations

from dataclasses import replace

from compress.architectures.bert import BERT
from compress.architectures.record import Slot

__all__ = ["DEBERTA", "DEBERTA_V2"]

DEBERTA = replace(
    BERT,
    model_type="deberta",
    heads_in=(
        Slot(path="attention.self.in_proj", packing="interleaved", parts=3),
        Slot(path="attention.self.q_bias"),
        Slot(path="attention.self.v_bias"),
        Slot(path="attention.self.pos_proj", optional=True),
        Slot(path="attention.self.pos_q_proj", optional=True),
    ),
)

DEBERTA_V2 = replace(
    BERT,
    model_type="deberta-v2",
    heads_in=(
        Slot(path="attention.self.query_proj"),
        Slot(path="attention.self.key_proj"),
        Slot(path="attention.self.value_proj"),
        Slot(path="attention.self.pos_key_proj", optional=True),
        Slot(path="attention.self.pos_query_proj", optional=True),
    ),
    after_first="encoder.conv",
)
