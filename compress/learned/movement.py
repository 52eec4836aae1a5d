"""Movement pruning by blocks: a unit whose weights move away from zero stays.

Sanh et al. 2020 (arXiv 2005.07683): ``S ← S − α ∂L/∂M``, the mask's gradient passed straight
through; Lagunas et al. 2021 (arXiv 2109.04838) give a block one score. Blocks here are whole heads
and neurons, whose mask gradient is ``Σ ∂L/∂W ⊙ W`` over their output weights. The budget is held
exactly, by the best scores on a cubic schedule; Lagunas et al. tune a threshold and a penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.learned.gate import UnitGate, Values, as_array, plan_by_rank
from compress.plan.cost import CostModel
from compress.plan.plan import EncoderShape, Plan, Unit
from compress.validation import above, at_least, share, validate

__all__ = ["MovementGate", "MovementSpec", "cubic_share"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MovementSpec:
    """What to keep, and how scores move.

    Attributes:
        share: Share of the encoder's cost that stays.
        cost: The cost model that the share is counted in.
        units: What may be removed.
        learning_rate: Learning rate of the scores (Adam). Default: the paper's.
        start, end: Shares of the training between which the mask closes.
        round_to: FFN widths are multiples of it.
    """

    share: float
    cost: CostModel
    units: tuple[Unit, ...] = ("heads", "neurons")
    learning_rate: float = 1e-2
    start: float = 0.25
    end: float = 0.75
    round_to: int = 16

    def __post_init__(self) -> None:
        validate(self, share=share(one=False), learning_rate=above(0), round_to=at_least(1))


class MovementGate(UnitGate):
    """One score a head and neuron; the best stay.

    Args:
        shape: The model's shape.
        spec: Budget and schedule.
    """

    def __init__(self, shape: EncoderShape, spec: MovementSpec) -> None:
        super().__init__()
        self.shape, self.spec = shape, spec
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(n)) for n in shape.n_heads)
        self.neurons = nn.ParameterList(nn.Parameter(torch.zeros(n)) for n in shape.ffn_widths)
        self._now = Plan.full(shape)

    def values(self, done: float) -> Values:
        """Ones and zeros, with the gradient passed on to the scores."""
        share = cubic_share(self.spec, done)
        self._now = Plan.full(self.shape) if share >= 1 else self._within(share)
        layers = self._now.layers
        heads = [_straight(s, x.heads) for s, x in zip(self.heads, layers, strict=True)]
        neurons = [_straight(s, x.neurons) for s, x in zip(self.neurons, layers, strict=True)]
        return Values(heads=tuple(heads), neurons=tuple(neurons))

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam, which puts heads and neurons on one scale."""
        return torch.optim.Adam(self.parameters(), lr=self.spec.learning_rate)

    def kept(self) -> float:
        """Share of the present plan."""
        cost = self.spec.cost
        return cost.total(self._now.student_shape) / cost.total(self.shape)

    def plan(self) -> Plan:
        """The best scores, as many as the budget takes."""
        return self._within(self.spec.share)

    def _within(self, share: float) -> Plan:
        return plan_by_rank(
            "movement",
            [as_array(s) for s in self.heads],
            [as_array(s) for s in self.neurons],
            self.shape,
            self.spec.cost,
            share,
            self.spec.units,
            self.spec.round_to,
        )


def cubic_share(spec: MovementSpec, done: float) -> float:
    """What may be left when a share `done` of the training is over.

    Example:
        >>> spec = MovementSpec(share=0.2, cost=CostModel(unit="macs"))
        >>> [round(cubic_share(spec, t), 2) for t in (0, 0.25, 0.5, 0.75, 1)]
        [1.0, 1.0, 0.3, 0.2, 0.2]
    """
    span = min(max((done - spec.start) / (spec.end - spec.start), 0.0), 1.0)
    return spec.share + (1 - spec.share) * (1 - span) ** 3


def _straight(scores: Tensor, keep: Sequence[int]) -> Tensor:
    """The mask, with its gradient passed straight through to the scores."""
    mask = torch.zeros_like(scores)
    mask[list(keep)] = 1.0
    return mask + (scores - scores.detach())
