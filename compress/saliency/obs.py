"""Structured optimal brain surgeon: the pruning order of a projection's inputs, and its cost.

One group of columns at a time, the rest adjusted to take over what it can (ZipLM, Kurtic et al.
2023, arXiv 2302.04089, equations 2 to 4), so that of two units that say the same the second
becomes dear once the first is gone. Harm is measured where the loss bends: a change ``ΔW`` costs
``tr(C ΔW S ΔWᵀ)``, with ``S`` the covariance of the inputs and ``C`` the Fisher matrix of the
outputs. Plain matrices in, plain numbers out; knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Removal", "adjusted", "covariance", "removal_order"]

_BLOCK = 128
_EPSILON = 1e-30


@dataclass(frozen=True, kw_only=True, slots=True)
class Removal:
    """The order in which units go, and what it costs.

    Attributes:
        order: Units, the first to go first: `(units,)`.
        loss_increase: Cost after `k` removals, best adjusted: `(units + 1,)`, rising from 0.
    """

    order: NDArray[np.int64]
    loss_increase: NDArray[np.float64]


def covariance(moments: Tensor, damping: float, *, centred: bool = True) -> Tensor:
    """Inputs' covariance, from moments whose last row and column belong to the constant 1.

    Args:
        moments: ``Σ [x, 1][x, 1]ᵀ``, `(inputs + 1, inputs + 1)`.
        damping: Added to the diagonal, as a share of its mean.
        centred: Take the mean out, which is what adjusting the projection's bias amounts to;
            not where it has none.

    Returns:
        `(inputs, inputs)`, float64; of one token.
    """
    sums = moments.double()
    count = sums[-1, -1].clamp_min(1.0)
    spread = sums[:-1, :-1] / count
    if centred:
        mean = sums[:-1, -1] / count
        spread = spread - torch.outer(mean, mean)
    spread.diagonal().add_(damping * spread.diagonal().mean().clamp_min(1e-12))
    return spread


def removal_order(weight: Tensor, spread: Tensor, metric: Tensor, width: int = 1) -> Removal:
    """Greedy order of removal of groups of `width` columns.

    Args:
        weight: The projection's weight, `(outputs, units * width)`.
        spread: ``S``, the inputs' covariance, positive definite.
        metric: ``C``, `(outputs, outputs)`, positive semi-definite.
        width: Columns of one unit: the head width; 1 for neurons.
    """
    weight, metric = weight.detach().double(), metric.double()
    if width == 1:
        taken = _columns(weight, spread, metric)
    else:
        taken = _groups(weight, spread, metric, width)
    order, costs = zip(*taken, strict=True)
    loss_increase = np.concatenate([[0.0], np.cumsum(np.maximum(costs, 0.0))])
    return Removal(order=np.array(order, np.int64), loss_increase=loss_increase)


def adjusted(weight: Tensor, spread: Tensor, keep: Tensor) -> Tensor:
    """The kept columns once they have taken over what they can of the others.

    Args:
        weight: `(outputs, inputs)`.
        spread: ``S``, `(inputs, inputs)`.
        keep: Places of the kept columns, `(kept,)`.

    Returns:
        ``W_K + W_R S_RK S_KK⁻¹``, `(outputs, kept)`, ``R`` being the columns not kept; in the
        precision of `spread`.
    """
    rest = torch.ones(weight.shape[1], dtype=torch.bool)
    rest[keep] = False
    weight = weight.detach().to(spread)
    carried = torch.linalg.solve(spread[keep][:, keep], spread[keep][:, rest])
    moved: Tensor = weight[:, keep] + weight[:, rest] @ carried.T
    return moved


def _columns(weight: Tensor, spread: Tensor, metric: Tensor) -> Iterator[tuple[int, float]]:
    """Single columns, cheapest first, with their costs.

    The downdates are set up afresh each time that half of the columns are gone: they lose digits.
    """
    alive = torch.arange(weight.shape[1])
    while len(alive):
        inner = spread[alive][:, alive]
        current = adjusted(weight, spread, alive)
        state = _Downdates(torch.linalg.inv(inner), current.T @ metric @ current)
        stop = len(alive) // 2
        gone: list[int] = []
        while len(alive) - len(gone) > stop:
            column, cost = state.take()
            gone.append(column)
            yield int(alive[column]), cost
        left = torch.ones(len(alive), dtype=torch.bool)
        left[gone] = False
        alive = alive[left]


def _groups(
    weight: Tensor, spread: Tensor, metric: Tensor, width: int
) -> Iterator[tuple[int, float]]:
    """Groups of `width` columns, cheapest first, with their costs; set up afresh each time."""
    alive = list(range(weight.shape[1] // width))
    spans = torch.arange(weight.shape[1]).view(-1, width)
    while alive:
        keep = spans[alive].flatten()
        current = adjusted(weight, spread, keep)
        blocks = (len(alive), width, len(alive), width)
        inverse = torch.linalg.inv(spread[keep][:, keep]).view(blocks)
        curvature = (current.T @ metric @ current).view(blocks)
        costs = torch.stack(
            [
                torch.linalg.solve(inverse[i, :, i], curvature[i, :, i]).trace()
                for i in range(len(alive))
            ]
        )
        least = int(costs.argmin())
        yield alive.pop(least), float(costs[least])


class _Downdates:
    """``A = S⁻¹`` and ``Q = Wᵀ C W`` of what is left, downdated at each removal.

    Removals are kept as factors, and folded into the matrices a block at a time by one product
    each, which is what makes 3,072 neurons a matter of seconds.
    """

    def __init__(self, inverse: Tensor, curvature: Tensor) -> None:
        self.inverse, self.curvature = inverse, curvature
        self.spare, self.value = inverse.diagonal().clone(), curvature.diagonal().clone()
        self.gone = torch.zeros_like(inverse[0], dtype=torch.bool)
        self.ratios, self.halves = inverse.new_empty(2, _BLOCK, len(inverse))
        self.pivots = inverse.new_empty(_BLOCK)
        self.n_waiting = 0

    def take(self) -> tuple[int, float]:
        """Take the cheapest column away; give its place and its cost, ``Q_jj / A_jj``."""
        column = int((self.value / self.spare).masked_fill_(self.gone, torch.inf).argmin())
        row, curved = self._current(column)
        pivot, here = row[column], curved[column]
        cost = float(here / pivot)
        ratio = row / pivot
        self.spare = (self.spare - pivot * ratio.square()).clamp_min_(_EPSILON)
        self.value = (self.value + ratio * (ratio * here - 2 * curved)).clamp_min_(0.0)
        self.gone[column] = True
        waiting = self.n_waiting
        self.ratios[waiting], self.pivots[waiting] = ratio, pivot
        self.halves[waiting] = curved - 0.5 * here * ratio
        self.n_waiting += 1
        if self.n_waiting == _BLOCK:
            self._fold()
        return column, cost

    def _current(self, column: int) -> tuple[Tensor, Tensor]:
        """The column's rows of both matrices, the waiting removals taken in."""
        ratios, halves = self.ratios[: self.n_waiting], self.halves[: self.n_waiting]
        here = ratios[:, column]
        row = self.inverse[column] - (self.pivots[: self.n_waiting] * here) @ ratios
        curved = self.curvature[column] - here @ halves - halves[:, column] @ ratios
        return row, curved

    def _fold(self) -> None:
        self.inverse.addmm_((self.ratios * self.pivots[:, None]).T, self.ratios, alpha=-1)
        self.curvature.addmm_(self.ratios.T, self.halves, alpha=-1)
        self.curvature.addmm_(self.halves.T, self.ratios, alpha=-1)
        self.n_waiting = 0
