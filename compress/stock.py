"""What a family's stock config can say of a student, and what it cannot.

Stock classes build every layer alike, so a config can tell another depth, one FFN width for all,
and, in families whose config names the head width, one head count for all.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from compress.architectures import Architecture
from compress.plan import EncoderShape, Plan

__all__ = ["described_", "stock_attributes", "stock_head_counts"]


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
    (n_heads,) = heads
    if n_heads not in stock_head_counts(architecture, plan.shape):
        return None
    return attributes | _heads(architecture, student, n_heads)


def stock_head_counts(architecture: Architecture, shape: EncoderShape) -> tuple[int, ...]:
    """Head counts, the same in all layers, that the family's stock config can say.

    All heads that the unpruned `shape` has; fewer only where the config names the head width, and
    where they divide the hidden size, as transformers asks.
    """
    whole = shape.n_heads[0]
    fewer = range(1, whole if architecture.head_keys else 1)
    fitting = [n for n in fewer if shape.hidden_size % (n * shape.queries) == 0]
    return (*fitting, whole)


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


def _heads(architecture: Architecture, shape: EncoderShape, n_heads: int) -> dict[str, int]:
    if not architecture.head_keys:
        return {}
    counts = dict.fromkeys(architecture.head_keys, n_heads * shape.queries)
    if architecture.key_heads:
        counts[architecture.key_heads] = n_heads
    return counts | {"head_dim": shape.head_width // shape.queries}
