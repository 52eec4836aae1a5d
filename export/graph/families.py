"""How each family's attention becomes one node of a fused graph: a table that a test keeps true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compress.architectures import ARCHITECTURES

__all__ = ["FUSED_FAMILIES", "FusedFamily", "fused_family"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FusedFamily:
    """What a fused graph of one family holds.

    Attributes:
        model_type: The family.
        how: `pattern` (ONNX Runtime's fusions find it), `interface` (emitted through transformers'
            attention interface) or `rewrite` (emitted by a method of `export.graph.rewrites`).
        attention: The node that each layer's attention becomes; `None` where it stays plain
            operators, and then `why` says the reason.
        others: Other fused nodes that appear in a sequence classifier.
        why: The reason why attention stays plain; empty, for every family fuses so far.
    """

    model_type: str
    how: Literal["pattern", "interface", "rewrite"] = "pattern"
    attention: Literal["Attention", "MultiHeadAttention"] | None = "Attention"
    others: tuple[str, ...] = ("BiasGelu", "SkipLayerNormalization")
    why: str = ""

    def __post_init__(self) -> None:
        if (self.attention is None) != bool(self.why):
            raise ValueError(f"{self.model_type}: plain attention, and it alone, needs a reason")


def _emitted(model_type: str, how: Literal["interface", "rewrite"], *others: str) -> FusedFamily:
    return FusedFamily(
        model_type=model_type, how=how, attention="MultiHeadAttention", others=others
    )


_EXCEPTIONS: tuple[FusedFamily, ...] = (
    FusedFamily(model_type="albert", others=("SkipLayerNormalization",)),
    _emitted("modernbert", "interface", "RotaryEmbedding"),
    _emitted("nomic_bert", "interface", "RotaryEmbedding", "SkipLayerNormalization"),
    _emitted(
        "jina_embeddings_v3", "interface", "BiasGelu", "RotaryEmbedding", "SkipLayerNormalization"
    ),
    _emitted(
        "eurobert", "interface", "BiasGelu", "RotaryEmbedding", "SkipSimplifiedLayerNormalization"
    ),
    _emitted("mpnet", "rewrite", "BiasGelu", "SkipLayerNormalization"),
    _emitted("deberta", "rewrite", "BiasGelu"),
    _emitted("deberta-v2", "rewrite", "BiasGelu", "FusedMatMul", "SkipLayerNormalization"),
    _emitted("xlnet", "rewrite", "BiasGelu", "SkipLayerNormalization"),
)

FUSED_FAMILIES: tuple[FusedFamily, ...] = tuple(
    next(
        (family for family in _EXCEPTIONS if family.model_type == architecture.model_type),
        FusedFamily(model_type=architecture.model_type),
    )
    for architecture in ARCHITECTURES
)


def fused_family(model_type: str) -> FusedFamily:
    """The row of a family.

    Example:
        >>> fused_family("modernbert").attention
        'MultiHeadAttention'
    """
    return next(family for family in FUSED_FAMILIES if family.model_type == model_type)
