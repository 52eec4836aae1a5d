"""One declarative record per encoder family, and the literal registry of them."""

from __future__ import annotations

from compress.architectures.albert import ALBERT
from compress.architectures.bert import BERT, ELECTRA, ROBERTA
from compress.architectures.distilbert import DISTILBERT
from compress.architectures.record import Architecture, Slot
from compress.errors import UnsupportedArchitectureError

__all__ = ["ARCHITECTURES", "Architecture", "Slot", "architecture_for"]

ARCHITECTURES: tuple[Architecture, ...] = (BERT, ROBERTA, ELECTRA, DISTILBERT, ALBERT)


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
