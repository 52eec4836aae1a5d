"""What a family's stock config can say of a student, and what it cannot.

Stock classes build every layer alike, so a config can tell another depth, one FFN width for all,
and, in families whose config names the head width, one head count for all.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from compress.architectures import Architecture
from compress.plan import Plan

__all__ = ["described_", "stock_attributes"]


def stock_attributes(architecture: Architecture, plan: Plan) -> dict[str, Any] | None:
    """The config attributes with which the stock class has the student's shape.

    Args:
        architecture: The family's record.
        plan: Of an unpruned model; `Plan.full` of its shape gives what it was before.

    Returns:
        Attribute names and values; `None` if no stock config has that shape.
    """
    student = plan.student_shape
    heads, widths = set(student.n_heads), set(student.ffn_widths)
    if len(heads) > 1 or len(widths) > 1 or 0 in heads | widths:
        return None
    if architecture.first_differs and plan.layers[0].source != 0:
        return None
    attributes = {**_depth(architecture, plan), architecture.width_key: min(widths)}
    n_heads = min(heads) * student.queries
    if min(heads) == plan.shape.n_heads[0]:
        return attributes | _heads(architecture, student.head_width, n_heads, student.queries)
    if not architecture.head_keys or student.hidden_size % n_heads:
        return None  # a config whose hidden size is no multiple of the heads is refused
    return attributes | _heads(architecture, student.head_width, n_heads, student.queries)


def described_(config: PreTrainedConfig, architecture: Architecture, plan: Plan) -> None:
    """Bring `config` in line with the plan, as far as stock attributes can say it."""
    attributes = stock_attributes(architecture, plan) or _depth(architecture, plan)
    for name, value in attributes.items():
        setattr(config, name, value)


def _depth(architecture: Architecture, plan: Plan) -> dict[str, Any]:
    attributes: dict[str, Any] = {"num_hidden_layers": plan.depth}
    if architecture.kinds_key:
        attributes[architecture.kinds_key] = list(plan.student_shape.kinds)
    return attributes


def _heads(architecture: Architecture, width: int, n_heads: int, queries: int) -> dict[str, int]:
    if not architecture.head_keys:
        return {}
    counts = {key: n_heads for key in architecture.head_keys}
    if architecture.key_heads:
        counts[architecture.key_heads] = n_heads // queries
    return counts | {"head_dim": width // queries}
