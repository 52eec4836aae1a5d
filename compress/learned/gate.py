"""What the loop that learns masks knows of a gate, and what gates on units share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from compress.errors import BudgetError
from compress.model.gating import gated
from compress.model.layout import Layout
from compress.plan.cost import CostModel
from compress.plan.plan import EncoderShape, Plan, Unit
from compress.saliency.scores import Array, Scores
from compress.search.plan_search import plan_by_scores

__all__ = ["MaskGate", "UnitGate", "Values", "as_array", "check_share", "ones", "plan_by_rank"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Values:
    """Factors of one pass.

    Attributes:
        heads: Per layer, `(n_heads,)`.
        neurons: Per layer, `(ffn_width,)`.
    """

    heads: tuple[Tensor, ...]
    neurons: tuple[Tensor, ...]


class MaskGate(nn.Module, ABC):
    """A mask that is learnt. Its parameters are what its optimiser moves."""

    @abstractmethod
    def standing(self, layout: Layout) -> AbstractContextManager[None]:
        """Within the block, the model computes behind the mask as it was last drawn."""

    @abstractmethod
    def draw(self, done: float) -> None:
        """Settle the mask of the next pass, differentiable.

        Args:
            done: Share of the training that is over, from 0 to 1.
        """

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer:
        """Of the gate's own parameters."""

    def penalty(self, done: float) -> Tensor:
        """What is added to the mean loss of an example."""
        return torch.zeros(())

    def moved(self, done: float) -> bool:
        """Told after each update; whether the training is over before its last step."""
        return False

    def kept(self) -> float:
        """What share the mask keeps at present, in expectation."""
        return 1.0


class UnitGate(MaskGate):
    """A mask over heads and neurons, which ends in a plan."""

    def __init__(self) -> None:
        super().__init__()
        self._drawn: tuple[list[Tensor], list[Tensor]] = ([], [])

    def standing(self, layout: Layout) -> AbstractContextManager[None]:
        """Within the block, heads and neurons are multiplied by what was last drawn."""
        return gated(layout, *self._drawn)

    def draw(self, done: float) -> None:
        """Settle the factors of the next pass."""
        values = self.values(done)
        self._drawn[0][:], self._drawn[1][:] = values.heads, values.neurons

    @abstractmethod
    def values(self, done: float) -> Values:
        """Factors of the next pass, differentiable.

        Args:
            done: Share of the training that is over, from 0 to 1.
        """

    @abstractmethod
    def plan(self) -> Plan:
        """What the mask keeps."""


def ones(counts: Sequence[int]) -> tuple[Tensor, ...]:
    """Factors that change nothing."""
    return tuple(torch.ones(n) for n in counts)


def plan_by_rank(
    kind: str,
    heads: Sequence[Array],
    neurons: Sequence[Array],
    shape: EncoderShape,
    cost: CostModel,
    share: float,
    units: tuple[Unit, ...],
    round_to: int,
) -> Plan:
    """The plan that keeps the units with the highest values, whatever a unit costs.

    A learnt gate says which units stay, and not by how much the loss would grow without them: so a
    unit's score is its value times its cost. Values are moved to begin a little above zero, so that
    the budget is used where they are equal.

    Args:
        kind: The gate's name.
        heads: Per layer, `(n_heads,)`.
        neurons: Per layer, `(ffn_width,)`.
        shape: The model's shape.
        cost: What `share` is counted in.
        share: Share of the encoder's cost that stays.
        units: What may be removed.
        round_to: FFN widths are multiples of it.
    """
    every = np.concatenate([*heads, *neurons])
    base = float(every.min()) - max(1e-3 * float(np.ptp(every)), 1e-6)
    scores = Scores(
        kind=kind,
        heads=tuple((values - base) * cost.head(shape, i) for i, values in enumerate(heads)),
        neurons=tuple((values - base) * cost.neuron(shape, i) for i, values in enumerate(neurons)),
    )
    prices = cost.prices(shape)
    budget = share * prices.total(shape)
    return plan_by_scores(scores, shape, prices, budget, units=units, round_to=round_to)


def check_share(share: float) -> None:
    """Refuse a share that keeps nothing, or all.

    Raises:
        BudgetError: It is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise BudgetError(
            f"the share to keep must be above 0 and below 1, found {share:g}; 0.5 keeps half"
        )


def as_array(values: Tensor) -> Array:
    """What a gate's tensor says, for a plan."""
    return values.detach().double().cpu().numpy()
