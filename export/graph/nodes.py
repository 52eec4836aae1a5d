"""Nodes of ONNX Runtime's own domain that tracing can emit.

transformers turns ``MultiHeadAttention`` into plain operators again when it fuses for the CPU, so
a node travels under a name of ours until that is over.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["finalize_", "multi_head_attention"]

_OURS = "compress_export"
_OP = "KeptMultiHeadAttention"
_DOMAIN, _VERSION = "com.microsoft", 1


def multi_head_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float
) -> Tensor:
    """``softmax(scale · Q Kᵀ + bias) V`` as one ``com.microsoft::MultiHeadAttention`` node.

    Only to be traced: run eagerly it gives zeros.

    Args:
        query: `(batch, heads, sequence, head_width)`.
        key: The same.
        value: The same.
        bias: Added to the scores, `(batch or 1, heads or 1, sequence, sequence)`.
        scale: Scale of the attention scores.

    Returns:
        `(batch, sequence, heads, head_width)`.
    """
    heads, width = query.shape[1], query.shape[3]
    merged = [tensor.transpose(1, 2).flatten(2) for tensor in (query, key, value)]
    context = torch.onnx.ops.symbolic(
        f"{_OURS}::{_OP}",
        (*merged, None, None, bias),
        {"num_heads": heads, "scale": float(scale)},
        dtype=query.dtype,
        shape=merged[0].shape,
        version=_VERSION,
    )
    split: Tensor = context.unflatten(-1, (heads, width))
    return split


def finalize_(program: Any) -> None:
    """Give every node of ours, in an `onnx_ir` model, the name that ONNX Runtime knows."""
    ours = [node for node in program.graph if node.domain == _OURS]
    for node in ours:
        node.domain, node.op_type = _DOMAIN, _OP.removeprefix("Kept")
    if ours:
        program.graph.opset_imports.pop(_OURS, None)
        program.graph.opset_imports[_DOMAIN] = _VERSION
