"""Distances of a student's signals from its teacher's. Tensors in, one number per example out.

Padding never counts, and a sequence counts as much as any other, however long it is: so the mean
over a batch is the same on one process or on several, and a signal can be stored by example.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = [
    "attention_error",
    "hidden_error",
    "label_divergence",
    "label_error",
    "logit_divergence",
    "logit_error",
    "relation_divergence",
    "scaled_products",
    "selected_error",
]


def label_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with given classes; the squared error where there is one output.

    Args:
        logits: `(batch, n_labels)`.
        labels: `(batch,)`.

    Returns:
        `(batch,)`.
    """
    if logits.shape[-1] == 1:
        return (logits.squeeze(-1).float() - labels.float()).square()
    return nn.functional.cross_entropy(logits.float(), labels.long(), reduction="none")


def logit_divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """``T² KL(softmax(teacher / T) ‖ softmax(student / T))`` (Hinton et al. 2015, section 2).

    Args:
        student: Logits, `(batch, n_labels)`.
        teacher: The teacher's, of the same shape.
        temperature: T.

    Returns:
        `(batch,)`, in nats.
    """
    here, there = ((logits.float() / temperature).log_softmax(-1) for logits in (student, teacher))
    divergence = nn.functional.kl_div(here, there, log_target=True, reduction="none").sum(-1)
    return temperature**2 * divergence


def label_divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """``T² Σ KL(σ(teacher / T) ‖ σ(student / T))`` over labels that are independent.

    Args:
        student: Logits, `(batch, n_labels)`.
        teacher: The teacher's, of the same shape.
        temperature: T.

    Returns:
        `(batch,)`, in nats.
    """
    here, there = (
        nn.functional.logsigmoid(torch.stack([x, -x], -1).float() / temperature)
        for x in (student, teacher)
    )
    divergence = nn.functional.kl_div(here, there, log_target=True, reduction="none")
    return temperature**2 * divergence.sum((-1, -2))


def logit_error(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared difference, a mean over outputs: for regression.

    Args:
        student: `(batch, n_outputs)`.
        teacher: The teacher's, of the same shape.

    Returns:
        `(batch,)`.
    """
    return (student.float() - teacher.float()).square().flatten(1).mean(-1)


def hidden_error(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """The squared difference of hidden states, a mean over features and real tokens.

    Args:
        student: `(batch, sequence, hidden_size)`.
        teacher: The teacher's, of the same shape.
        mask: `(batch, sequence)`, 1 at real tokens.

    Returns:
        `(batch,)`.
    """
    return _over_tokens((student.float() - teacher.float()).square().mean(-1), mask)


def selected_error(
    student: Tensor, values: Tensor, tokens: Tensor, feature_indices: Tensor
) -> Tensor:
    """The squared difference at some places of some tokens, a mean over them.

    Args:
        student: Hidden states, `(batch, sequence, hidden_size)`.
        values: What the teacher has there, `(batch, n_tokens, n_features)`.
        tokens: Positions, `(batch, n_tokens)`; -1 where an example has fewer.
        feature_indices: Indices of features, `(batch, n_tokens, n_features)`.

    Returns:
        `(batch,)`.
    """
    real = tokens >= 0
    rows = tokens.clamp_min(0).unsqueeze(-1).expand(-1, -1, student.shape[-1])
    found = student.gather(1, rows).gather(2, feature_indices)
    return _over_tokens((found.float() - values.float()).square().mean(-1), real)


def scaled_products(queries: Tensor, keys: Tensor, n_heads: int) -> Tensor:
    """``Q Kᵀ / √d`` by head.

    Args:
        queries: `(batch, sequence, n_heads * d)`.
        keys: Keys, of the same shape.
        n_heads: Number of heads that they are split into.

    Returns:
        `(batch, n_heads, sequence, sequence)`.
    """
    with torch.autocast(queries.device.type, enabled=False):  # float16 would overflow
        parts = [x.float().unflatten(-1, (n_heads, -1)).transpose(1, 2) for x in (queries, keys)]
        scores: Tensor = parts[0] @ parts[1].transpose(-1, -2) / parts[0].shape[-1] ** 0.5
    return scores


def attention_error(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """The squared difference of attention scores before the softmax (TinyBERT, equation 7).

    Args:
        student: `(batch, heads, sequence, sequence)`.
        teacher: The teacher's, of the same shape.
        mask: `(batch, sequence)`, 1 at real tokens.

    Returns:
        `(batch,)`, a mean over heads and pairs of real tokens.
    """
    pairs = mask[:, :, None] * mask[:, None, :]
    squares = (student.float() - teacher.float()).square().mean(1)
    return (squares * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp_min(1)


def relation_divergence(student: Tensor, teacher: Tensor, n_heads: int, mask: Tensor) -> Tensor:
    """KL of self-relations ``softmax(X Xᵀ / √d)`` (MiniLM v2, equations 4 and 5).

    Queries, keys or values of all heads are laid side by side and cut into `n_heads` relation
    heads, so that neither head counts nor widths need agree.

    Args:
        student: `(batch, sequence, width)`, each of a width of its own that `n_heads`
            divides.
        teacher: The teacher's, of the same shape.
        n_heads: Relation heads.
        mask: `(batch, sequence)`, 1 at real tokens.

    Returns:
        `(batch,)`, a mean over relation heads and real tokens, in nats.
    """
    hidden = (mask == 0)[:, None, None, :]
    here, there = (
        scaled_products(x, x, n_heads).masked_fill(hidden, -torch.inf).log_softmax(-1)
        for x in (student, teacher)
    )
    terms = there.exp() * (there - here).masked_fill(hidden, 0.0)
    return _over_tokens(terms.sum(-1).mean(1), mask)


def _over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """Means over real tokens of `values`, `(batch, sequence)`."""
    weights = mask.to(values)
    return (values * weights).sum(-1) / weights.sum(-1).clamp_min(1)
