"""A position bias that is computed once for all layers: each pruned layer picks its heads' rows.

MPNet hands every layer the same ``(batch, heads, query, key)`` bias, so a layer with fewer heads
has to take the rows of those it kept.
"""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["kept_rows", "pick_rows_"]

_KEPT = "kept_heads"


def pick_rows_(attention: nn.Module, keep: tuple[int, ...]) -> None:
    """From now on `attention` takes only the rows `keep`, of those it took so far, of the bias.

    Args:
        attention: Takes the bias as its third positional argument.
        keep: Kept heads, of those that are there.
    """
    before = kept_rows(attention)
    if before is None:
        attention.register_forward_pre_hook(_pick)
    setattr(attention, _KEPT, keep if before is None else tuple(before[i] for i in keep))


def kept_rows(attention: nn.Module) -> tuple[int, ...] | None:
    """The rows that `attention` takes; `None` if all."""
    rows: tuple[int, ...] | None = getattr(attention, _KEPT, None)
    return rows


def _pick(attention: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    hidden_states, mask, bias, *rest = args
    return (hidden_states, mask, bias[:, list(kept_rows(attention) or ())], *rest)
