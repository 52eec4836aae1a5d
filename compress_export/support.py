"""What is promised for each family: heads, fused nodes, and which loaders take which students."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from transformers.models.auto import modeling_auto

from compress.architectures import ARCHITECTURES, Architecture, architecture_for
from export.graph.families import fused_family

__all__ = [
    "HEAD_CLASSES",
    "MODEL_HEADS",
    "Loader",
    "Support",
    "all_support",
    "loaders",
    "support_of",
]

HEAD_CLASSES: dict[str, Mapping[str, Any]] = {
    "sequence": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "token": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    "question": modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    "choice": modeling_auto.MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES,
    "masked": {**modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, "xlnet": "XLNetLMHeadModel"},
    "plain": modeling_auto.MODEL_MAPPING_NAMES,
}

MODEL_HEADS = tuple(HEAD_CLASSES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Support:
    """One family.

    Attributes:
        model_type: As transformers spells it.
        heads: Model heads that transformers has for it, all of which can be pruned and exported.
        ffn: `gated` or `plain`.
        attention: The node of a fused graph, one a layer with that layer's own head count, or
            `plain operators`.
        fused: How it comes to be: see `export.graph.families`.
        layers: `own`, `shared` (ALBERT) or `mixed` local and global attention (ModernBERT).
        stock_heads: A stock config can say fewer heads, the same in all layers.
        why: The reason where attention stays plain operators.
    """

    model_type: str
    heads: tuple[str, ...]
    ffn: str
    attention: str
    fused: str
    layers: str
    stock_heads: bool
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Loader:
    """Which students a loader takes: those with one width, with one head count too, any."""

    name: str
    one_width: bool
    one_head_count: bool
    any_plan: bool


def support_of(architecture: Architecture) -> Support:
    """What is promised for a family."""
    fused = fused_family(architecture.model_type)
    parts = sum(slot.parts for slot in architecture.ffn_in)
    layers = "shared" if architecture.shared else "own"
    return Support(
        model_type=architecture.model_type,
        heads=tuple(
            name for name, table in HEAD_CLASSES.items() if architecture.model_type in table
        ),
        ffn="gated" if parts > 1 else "plain",
        attention=fused.attention or "plain operators",
        fused=fused.how,
        layers="mixed" if architecture.kinds_key else layers,
        stock_heads=bool(architecture.head_keys),
        why=fused.why,
    )


def all_support() -> tuple[Support, ...]:
    """Every family."""
    return tuple(support_of(architecture) for architecture in ARCHITECTURES)


def loaders(model_type: str) -> tuple[Loader, ...]:
    """Which loaders and serving stacks take which students of a family.

    What stacks take is told by their documentation; transformers and ONNX Runtime are tested.
    Stacks that read weights by the stock config (Text Embeddings Inference on a GPU, a torch
    server) take what plain `from_pretrained` takes; `expand` makes any student one of those.
    """
    heads = bool(architecture_for(model_type).head_keys)
    return (
        Loader("plain from_pretrained, TEI on GPU", True, heads, False),
        Loader("… with trust_remote_code", True, True, True),
        Loader("compress.load", True, True, True),
        Loader("ONNX: ORT, Triton, Optimum, TEI on CPU", True, True, True),
        Loader("after `expand` (no faster): any", True, True, True),
    )
