"""Sums of outer products over any number of rows, in fixed memory. Knows matrices only."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["GramSum", "solve_damped"]

_ROWS = 2048
_COLUMNS = 768
"""Columns a product: what lies below the diagonal is left to its mirror image."""


class GramSum:
    """``Σ xᵀ [x, y]`` over rows: products in float32, gathered; their sum in `dtype`.

    Args:
        inputs: Columns of ``x``.
        outputs: Columns of ``y``.
        dtype: Precision of the sum.
        most: Rows that are gathered before they are multiplied: a few at a time mostly moves the
            sum about.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int = 0,
        dtype: torch.dtype = torch.float64,
        most: int = _ROWS,
    ) -> None:
        self._inputs, self._most = inputs, most
        self._upper = torch.zeros(inputs, inputs + outputs, dtype=dtype)
        self._waiting: list[Tensor] = []

    def add_(self, rows: Tensor) -> None:
        """Add `rows`: `(n, inputs + outputs)`, on any device."""
        self._waiting.append(rows.detach().float())
        if sum(map(len, self._waiting)) >= self._most:
            self._fold()

    def total(self) -> tuple[Tensor, Tensor]:
        """``Σ xᵀ x``, `(inputs, inputs)`, and ``Σ xᵀ y``, `(inputs, outputs)`."""
        self._fold()
        gram, cross = self._upper[:, : self._inputs], self._upper[:, self._inputs :]
        return gram.triu() + gram.triu(1).T, cross.clone()

    def _fold(self) -> None:
        if not self._waiting:
            return
        rows = torch.cat(self._waiting)
        self._waiting.clear()
        for start in range(0, self._inputs, _COLUMNS):
            stop = min(start + _COLUMNS, self._inputs)
            product = rows[:, start:stop].T @ rows[:, start:]
            self._upper[start:stop, start:] += product.to(self._upper)


def solve_damped(gram: Tensor, moment: Tensor, damping: float) -> Tensor:
    """The minimiser Δ of ``tr(Δᵀ G Δ) − 2 tr(Δᵀ M) + λ‖Δ‖²``, λ = damping × mean diagonal of G.

    Args:
        gram: ``G = FᵀF``, `(inputs, inputs)`, float64.
        moment: ``M = FᵀR``, `(inputs, outputs)`, float64.
        damping: Relative; above 0 where G may be singular.

    Returns:
        Δ: `(inputs, outputs)`.
    """
    damped = gram.clone()
    damped.diagonal().add_(damping * gram.diagonal().mean().clamp_min(1e-12))
    factor, failed = torch.linalg.cholesky_ex(damped)
    if failed:
        solution: Tensor = torch.linalg.solve(damped, moment)
        return solution
    return torch.cholesky_solve(moment, factor)
