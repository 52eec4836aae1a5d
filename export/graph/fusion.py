"""Count the fused nodes of a graph, and hold each head count against the plan."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx

from compress.errors import FusionError
from compress.plan.plan import EncoderShape
from export.graph.families import fused_family

__all__ = ["Fusion", "applied_heads", "check_heads", "inspect_graph"]

_ATTENTION = ("Attention", "MultiHeadAttention")
_FUSED_DOMAIN = "com.microsoft"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fusion:
    """What a graph is made of.

    Attributes:
        ops: Nodes by operator; those of ONNX Runtime's own domain are the fused ones.
        fused: The subset of `ops` in ONNX Runtime's own domain.
        num_heads: Heads of every fused attention node, in graph order.
    """

    ops: dict[str, int]
    fused: dict[str, int]
    num_heads: tuple[int, ...]


def inspect_graph(path: Path) -> Fusion:
    """Read a graph's operators, without its weights."""
    nodes = onnx.load(path, load_external_data=False).graph.node
    heads = tuple(
        int(attribute.i)
        for node in nodes
        if node.op_type in _ATTENTION and node.domain == _FUSED_DOMAIN
        for attribute in node.attribute
        if attribute.name == "num_heads"
    )
    fused = Counter(node.op_type for node in nodes if node.domain == _FUSED_DOMAIN)
    return Fusion(
        ops=dict(sorted(Counter(node.op_type for node in nodes).items())),
        fused=dict(sorted(fused.items())),
        num_heads=heads,
    )


def check_heads(fusion: Fusion, shape: EncoderShape, where: str) -> None:
    """Hold a fused graph against the student: every attention fused, each with its own heads.

    ONNX Runtime's classic optimiser stamps one head count on all layers, and the outputs are
    silently wrong; this is the check that would have caught it.

    Raises:
        FusionError: The head counts of the fused attentions are not the student's.
    """
    expected = applied_heads(shape) if fused_family(shape.model_type).attention else ()
    if fusion.num_heads != expected:
        raise FusionError(
            f"{where}: fused attention must have num_heads {list(expected)}, the plan's, found "
            f"{list(fusion.num_heads)}; this graph would give wrong outputs"
        )


def applied_heads(shape: EncoderShape) -> tuple[int, ...]:
    """Query heads of every attention that is applied, in order; layers without are left out."""
    return tuple(
        shape.n_heads[i] * shape.queries_per_kv_head for i in shape.applied if shape.n_heads[i]
    )
