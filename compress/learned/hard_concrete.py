"""L0 by hard-concrete gates, held to a budget by a Lagrangian: sublayers, heads and neurons.

The gates are those of Louizos et al. 2018 (arXiv 1712.01312), used for heads by Voita et al. 2019
and at several grains by CoFi (Xia et al. 2022, arXiv 2204.00408), whose Lagrangian
``λ₁(s − t) + λ₂(s − t)²`` has multipliers that ascend. CoFi's gates on the hidden size are left
out: a plan keeps the residual stream whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compress.learned.gate import UnitGate, Values, as_array, ones, plan_by_rank
from compress.plan.cost import CostModel
from compress.plan.plan import EncoderShape, Plan, Unit
from compress.validation import above, at_least, share, validate

__all__ = ["HardConcreteGate", "HardConcreteSpec", "probability_open", "sample"]

_LOW, _HIGH, _BETA = -0.1, 1.1, 2 / 3


@dataclass(frozen=True, kw_only=True, slots=True)
class HardConcreteSpec:
    """What to keep, and how gates move.

    Attributes:
        share: Share of the encoder's cost that stays.
        cost: The cost model that the share is counted in.
        units: What may be removed. A whole sublayer is removed with its gate.
        learning_rate: Learning rate of gates and multipliers.
        warmup: Share of the training in which the target falls from 1 to `share`.
        start: Initial ``log α``: how open gates are at first.
        round_to: FFN widths are multiples of it.
        seed: Seed of the noise.
    """

    share: float
    cost: CostModel
    units: tuple[Unit, ...] = ("heads", "neurons")
    learning_rate: float = 0.1
    warmup: float = 0.5
    start: float = 2.0
    round_to: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        validate(
            self,
            share=share(one=False),
            learning_rate=above(0),
            warmup=share(zero=True),
            round_to=at_least(1),
        )


class HardConcreteGate(UnitGate):
    """One gate a head and neuron, and one a sublayer that multiplies all of its own.

    Args:
        shape: The model's shape.
        spec: Budget and schedule.
    """

    def __init__(self, shape: EncoderShape, spec: HardConcreteSpec) -> None:
        super().__init__()
        self.shape, self.spec = shape, spec
        self._generator = torch.Generator().manual_seed(spec.seed)
        self.heads = self._new(shape.n_heads)
        self.neurons = self._new(shape.ffn_widths)
        self.sublayers = self._new([1] * (2 * shape.n_layers))
        self.multipliers = nn.Parameter(torch.zeros(2))

    def _new(self, counts: Sequence[int]) -> nn.ParameterList:
        start = self.spec.start
        return nn.ParameterList(
            nn.Parameter(start + 0.01 * torch.randn(n, generator=self._generator)) for n in counts
        )

    def values(self, done: float) -> Values:
        """One draw of every gate."""
        n, units = self.shape.n_layers, self.spec.units
        heads, neurons = ones(self.shape.n_heads), ones(self.shape.ffn_widths)
        if "heads" in units:
            heads = self._sampled(self.heads, list(self.sublayers)[:n])
        if "neurons" in units:
            neurons = self._sampled(self.neurons, list(self.sublayers)[n:])
        return Values(heads=heads, neurons=neurons)

    def _sampled(self, units: nn.ParameterList, sublayers: Sequence[Tensor]) -> tuple[Tensor, ...]:
        pairs = zip(units, sublayers, strict=True)
        return tuple(sample(u, self._generator) * sample(s, self._generator) for u, s in pairs)

    def expected(self) -> Tensor:
        """The share of the encoder's cost whose gates are open, in expectation (CoFi)."""
        shape, cost, n = self.shape, self.spec.cost, self.shape.n_layers
        total = torch.tensor(float(cost.fixed(shape)))
        for i in range(n):
            heads, neurons = self._open(i)
            total = total + cost.head(shape, i) * heads.sum()
            total = total + cost.neuron(shape, i) * neurons.sum()
        return total / cost.total(shape)

    def _open(self, layer: int) -> tuple[Tensor, Tensor]:
        """Probabilities that the gates of a layer's heads and neurons are open."""
        shape, n, units = self.shape, self.shape.n_layers, self.spec.units
        heads, neurons = ones([shape.n_heads[layer], shape.ffn_widths[layer]])
        if "heads" in units:
            heads = probability_open(self.heads[layer]) * probability_open(self.sublayers[layer])
        if "neurons" in units:
            whole = probability_open(self.sublayers[n + layer])
            neurons = probability_open(self.neurons[layer]) * whole
        return heads, neurons

    def penalty(self, done: float) -> Tensor:
        """The Lagrangian; the target falls from 1 in the warm-up."""
        progress = min(done / self.spec.warmup, 1.0) if self.spec.warmup else 1.0
        over = self.expected() - (1 + progress * (self.spec.share - 1))
        return self.multipliers[0] * over + self.multipliers[1] * over.square()

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam: gates descend, multipliers ascend."""
        gates = [*self.heads, *self.neurons, *self.sublayers]
        groups: list[dict[str, Any]] = [
            {"params": gates},
            {"params": [self.multipliers], "maximize": True},
        ]
        return torch.optim.Adam(groups, lr=self.spec.learning_rate)

    def kept(self) -> float:
        """Expected share."""
        return float(self.expected().detach())

    def plan(self) -> Plan:
        """The gates that are likeliest to be open, as many as the budget takes."""
        with torch.no_grad():
            pairs = [self._open(i) for i in range(self.shape.n_layers)]
        return plan_by_rank(
            "hard-concrete",
            [as_array(heads) for heads, _ in pairs],
            [as_array(neurons) for _, neurons in pairs],
            self.shape,
            self.spec.cost,
            self.spec.share,
            self.spec.units,
            self.spec.round_to,
        )


def sample(log_alpha: Tensor, generator: torch.Generator) -> Tensor:
    """A draw of hard-concrete gates: `log_alpha`'s shape, in 0…1, exactly 0 or 1 at times."""
    uniform = torch.rand(log_alpha.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
    soft = ((uniform / (1 - uniform)).log() + log_alpha).div(_BETA).sigmoid()
    return (soft * (_HIGH - _LOW) + _LOW).clamp(0, 1)


def probability_open(log_alpha: Tensor) -> Tensor:
    """P(z > 0) of each gate (Louizos et al. 2018)."""
    return (log_alpha - _BETA * math.log(-_LOW / _HIGH)).sigmoid()
