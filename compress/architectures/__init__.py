"""One declarative record per encoder family, and the literal registry of them."""

from __future__ import annotations

from compress.architectures.albert import ALBERT
from compress.architectures.bert import (
    BERT,
    CAMEMBERT,
    DATA2VEC_TEXT,
    ELECTRA,
    ERNIE,
    REMBERT,
    ROBERTA,
    XLM_ROBERTA,
)
from compress.architectures.deberta import DEBERTA, DEBERTA_V2
from compress.architectures.distilbert import DISTILBERT
from compress.architectures.gated import EUROBERT, JINA_EMBEDDINGS_V3, NOMIC_BERT
from compress.architectures.modernbert import MODERNBERT
from compress.architectures.mpnet import MPNET
from compress.architectures.prenorm import MEGATRON_BERT, ROBERTA_PRELAYERNORM, XLM_ROBERTA_XL
from compress.architectures.record import Architecture, Slot
from compress.architectures.xlnet import XLNET
from compress.errors import UnsupportedArchitectureError

__all__ = ["ARCHITECTURES", "Architecture", "Slot", "architecture_for"]

ARCHITECTURES: tuple[Architecture, ...] = (
    BERT,
    ROBERTA,
    XLM_ROBERTA,
    CAMEMBERT,
    ALBERT,
    XLNET,
    DISTILBERT,
    ELECTRA,
    DEBERTA,
    DEBERTA_V2,
    MPNET,
    MODERNBERT,
    NOMIC_BERT,
    EUROBERT,
    ERNIE,
    DATA2VEC_TEXT,
    REMBERT,
    XLM_ROBERTA_XL,
    ROBERTA_PRELAYERNORM,
    MEGATRON_BERT,
    JINA_EMBEDDINGS_V3,
)


def architecture_for(model_type: str) -> Architecture:
    """The record of `model_type`.

    Raises:
        UnsupportedArchitectureError: No record has that key; the message lists those that exist.

    Example:
        >>> architecture_for("roberta").layers
        'encoder.layer'
    """
    for architecture in ARCHITECTURES:
        if architecture.model_type == model_type:
            return architecture
    known = ", ".join(sorted(a.model_type for a in ARCHITECTURES))
    raise UnsupportedArchitectureError(
        f"model_type {model_type!r} has no architecture record; supported: {known}; "
        f"to add it, write compress/architectures/{model_type.replace('-', '_')}.py"
    )
