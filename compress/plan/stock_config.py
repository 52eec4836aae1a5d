"""What a family's stock config can say of a student, and what it cannot.

Stock classes build every layer alike, so a config can tell another depth, one FFN width for all,
and, in families whose config names the head width, one head count for all.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from compress.architectures import Architecture
from compress.plan.plan import EncoderShape, Plan

__all__ = ["expressible_in_config", "stock_attributes", "stock_head_counts", "update_config_"]


def stock_attributes(architecture: Architecture, plan: Plan) -> dict[str, Any] | None:
    """The config attributes with which the stock class has the student's shape.

    Args:
        architecture: The family's record.
        plan: A plan for an unpruned model; `Plan.full` gives the model's own attributes.

    Returns:
        Attribute names and values; `None` if no stock config has that shape.
    """
    student = plan.student_shape
    if _one_of(student.ffn_widths) is None:
        return None
    if _one_of(student.n_heads) not in stock_head_counts(architecture, plan.shape):
        return None
    if architecture.first_differs and plan.layers[0].source != 0:
        return None
    return expressible_in_config(architecture, student)


def stock_head_counts(architecture: Architecture, shape: EncoderShape) -> tuple[int, ...]:
    """Head counts, the same in all layers, that the family's stock config can say.

    All heads that the unpruned `shape` has; fewer only where the config names the head width, and
    where they divide the hidden size, as transformers asks.
    """
    whole = shape.n_heads[0]
    if not architecture.head_keys:
        return (whole,)
    return tuple(n for n in range(1, whole + 1) if _divides(n, shape) or n == whole)


def update_config_(config: PreTrainedConfig, architecture: Architecture, plan: Plan) -> None:
    """Bring `config` in line with the student, as far as stock attributes can say what it is."""
    for name, value in expressible_in_config(architecture, plan.student_shape).items():
        setattr(config, name, value)


def expressible_in_config(architecture: Architecture, student: EncoderShape) -> dict[str, Any]:
    """What a stock config can say of a shape: depth, kinds, and each size that all layers share."""
    attributes: dict[str, Any] = {"num_hidden_layers": student.depth}
    if architecture.kinds_key:
        attributes[architecture.kinds_key] = list(student.kinds)
    width, n_heads = _one_of(student.ffn_widths), _one_of(student.n_heads)
    if width is not None:
        attributes[architecture.width_key] = width
    if architecture.head_keys and n_heads is not None and _divides(n_heads, student):
        attributes |= dict.fromkeys(architecture.head_keys, n_heads * student.queries_per_kv_head)
        attributes["head_dim"] = student.head_width // student.queries_per_kv_head
        if architecture.key_heads:
            attributes[architecture.key_heads] = n_heads
    return attributes


def _one_of(sizes: tuple[int, ...]) -> int | None:
    """The size that all layers share; `None` if they differ, or nothing is left."""
    return sizes[0] if len(set(sizes)) == 1 and sizes[0] else None


def _divides(n_heads: int, shape: EncoderShape) -> bool:
    return shape.hidden_size % (n_heads * shape.queries_per_kv_head) == 0
