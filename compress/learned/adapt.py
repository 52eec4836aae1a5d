"""Adapting by pruning: a frozen model learns a task by what is taken out of it.

Gao, Colombo and Wang 2021 (arXiv 2105.03343, section 3): ``m = σ(tθ)`` with a large ``t`` forward
and a small one backward, ``θ ← θ − α ∇̃ − γ``, over once the share asked for is negative. The
paper's masks are on single weights (`unstructured`). Here they are on heads and neurons, which can
be removed, so that adapting gives speed; a unit's gradient is counted by what the unit costs, so
that the decay asks the same price of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.learned.gate import UnitGate, Values, as_array, ones, plan_by_rank
from compress.plan.cost import CostModel
from compress.plan.plan import EncoderShape, Plan, Unit
from compress.validation import at_least, share, validate

__all__ = ["AdaptGate", "AdaptSpec", "Descent", "Pace", "first_values", "open_gate"]

_FORWARD, _BACKWARD = 1e5, 1.0
_MEAN, _SPREAD = 0.01, 0.001
_SAMPLE = 400_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Descent:
    """How θ moves.

    Attributes:
        steps: Updates in which the decay alone would close a gate of the mean first value.
        learning_rate: α. Default: such that the mean gradient of the first update weighs `pull`
            times as much as the decay.
        pull: See `learning_rate`. In the paper α is a hundred times γ, whatever the gradients are;
            with its γ of 2·10⁻⁷ a mean gate needs 50,000 updates to close, twice those of its
            SST-2.
        seed: Seed of the first values.
    """

    steps: int
    learning_rate: float | None = None
    pull: float = 10.0
    seed: int = 0

    @classmethod
    def within(cls, updates: int, seed: int = 0) -> Descent:
        """The decay alone would close all gates in half of the updates."""
        return cls(steps=max(1, updates // 2), seed=seed)

    @property
    def decay(self) -> float:
        """γ."""
        return _MEAN / self.steps

    def optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.SGD:
        """Plain gradient descent by α; the decay is `settle`'s."""
        return torch.optim.SGD(parameters, lr=self.learning_rate or 0.0)

    def settle(self, optimizer: torch.optim.SGD, done: float, share: float) -> None:
        """The rest of an update: the decay; and the rate, if it was left open.

        Args:
            optimizer: What `optimizer` returned.
            done: Share of the training that is over; the decay is constant.
            share: Share of gates that should stay; the gate itself knows when to end.
        """
        (group,) = optimizer.param_groups
        gradients = [p.grad for p in group["params"] if p.grad is not None]
        if group["lr"] == 0 and gradients:
            mean = float(torch.cat([g.abs().flatten() for g in gradients]).mean())
            group["lr"] = self.pull * self.decay / max(mean, 1e-30)
        with torch.no_grad():
            for parameter in group["params"]:
                parameter -= self.decay


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How θ moves where there are hundreds of updates for millions of gates.

    Under a constant decay gates that begin within a tenth of each other close within the last
    tenth of the updates, which in the paper are thousands. Here the decay of each update is what
    leaves as many open as a linear schedule asks for, and no gate moves far by one gradient: a few
    have a thousand times the mean, and closing them all at once would break the model.

    Attributes:
        bound: The most that a gradient moves θ in an update, in spreads of the first values.
        start, end: Shares of the training between which gates close.
        seed: Seed of the first values.
    """

    bound: float = 0.02
    start: float = 0.1
    end: float = 0.9
    seed: int = 0

    def optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.SGD:
        """Holds θ; all of the move is `settle`'s."""
        return torch.optim.SGD(parameters, lr=0.0)

    def settle(self, optimizer: torch.optim.SGD, done: float, share: float) -> None:
        """An update, in which a mean gradient would move θ by a spread, but for the bound.

        So most move by just that, as their gradient's sign says, and only the smallest by less.

        Args:
            optimizer: What `optimizer` returned.
            done: Share of the training that is over.
            share: Share of gates that should stay at its end.
        """
        (group,) = optimizer.param_groups
        moving = [p for p in group["params"] if p.grad is not None]
        most = self.bound * _SPREAD
        with torch.no_grad():
            mean = float(torch.cat([p.grad.abs().flatten() for p in moving]).mean())
            for theta in moving:
                theta -= (theta.grad * (_SPREAD / max(mean, 1e-30))).clamp(-most, most)
            cut = _quantile(moving, 1 - self.open_share(done, share), self.seed)
            for theta in moving:
                theta -= cut

    def open_share(self, done: float, share: float) -> float:
        """Gates that are open when a share `done` of the training is over.

        Example:
            >>> [round(Pace().open_share(done, 0.5), 2) for done in (0, 0.1, 0.5, 0.9, 1)]
            [1.0, 1.0, 0.75, 0.5, 0.5]
        """
        span = min(max((done - self.start) / (self.end - self.start), 0.0), 1.0)
        return 1 - (1 - share) * span


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptSpec:
    """What to keep, and how gates move.

    Attributes:
        share: Share of the encoder's cost that stays.
        cost: The cost model that the share is counted in.
        descent: Schedule of θ.
        units: What may be removed.
        round_to: FFN widths are multiples of it.
    """

    share: float
    cost: CostModel
    descent: Descent
    units: tuple[Unit, ...] = ("heads", "neurons")
    round_to: int = 16

    def __post_init__(self) -> None:
        validate(self, share=share(one=False), round_to=at_least(1))


class AdaptGate(UnitGate):
    """One θ a head and neuron.

    Args:
        shape: The model's shape.
        spec: Budget and descent.
    """

    def __init__(self, shape: EncoderShape, spec: AdaptSpec) -> None:
        super().__init__()
        self.shape, self.spec = shape, spec
        generator = torch.Generator().manual_seed(spec.descent.seed)
        self.heads = nn.ParameterList(first_values((n,), generator) for n in shape.n_heads)
        self.neurons = nn.ParameterList(first_values((n,), generator) for n in shape.ffn_widths)
        least = min(spec.cost.neuron(shape, i) for i in range(shape.n_layers))
        for i in range(shape.n_layers):
            _priced(self.heads[i], spec.cost.head(shape, i) / least)
            _priced(self.neurons[i], spec.cost.neuron(shape, i) / least)
        self._optimizer = spec.descent.optimizer([*self._of("heads"), *self._of("neurons")])

    def _of(self, unit: Unit) -> nn.ParameterList:
        """The θ of a kind of unit, if it may go."""
        own = self.heads if unit == "heads" else self.neurons
        return own if unit in self.spec.units else nn.ParameterList()

    def values(self, done: float) -> Values:
        """All but ones and zeros, with a soft gradient."""
        heads, neurons = ones(self.shape.n_heads), ones(self.shape.ffn_widths)
        if "heads" in self.spec.units:
            heads = tuple(map(open_gate, self.heads))
        if "neurons" in self.spec.units:
            neurons = tuple(map(open_gate, self.neurons))
        return Values(heads=heads, neurons=neurons)

    def optimizer(self) -> torch.optim.Optimizer:
        """Plain gradient descent."""
        return self._optimizer

    def moved(self, done: float) -> bool:
        """Decay; over once no more is kept than was asked for."""
        self.spec.descent.settle(self._optimizer, done, self.spec.share)
        return self.kept() <= self.spec.share

    def kept(self) -> float:
        """Share of the cost whose θ is positive."""
        shape, cost = self.shape, self.spec.cost
        total = float(cost.fixed(shape))
        for i in range(shape.n_layers):
            total += cost.head(shape, i) * float((self.heads[i] > 0).sum())
            total += cost.neuron(shape, i) * float((self.neurons[i] > 0).sum())
        return total / cost.total(shape)

    def plan(self) -> Plan:
        """The largest θ, as many as the budget takes."""
        return plan_by_rank(
            "adapt",
            [as_array(theta) for theta in self.heads],
            [as_array(theta) for theta in self.neurons],
            self.shape,
            self.spec.cost,
            self.spec.share,
            self.spec.units,
            self.spec.round_to,
        )


def first_values(size: tuple[int, ...], generator: torch.Generator) -> nn.Parameter:
    """θ before training: N(0.01, 0.001), every gate open."""
    return nn.Parameter(_MEAN + _SPREAD * torch.randn(size, generator=generator))


def open_gate(theta: Tensor) -> Tensor:
    """``σ(10⁵ θ)`` with the gradient of ``σ(θ)``: the factor of each θ, of its shape."""
    soft = (_BACKWARD * theta).sigmoid()
    return (_FORWARD * theta).sigmoid().detach() + (soft - soft.detach())


def _quantile(thetas: list[Tensor], share: float, seed: int) -> float:
    """The value that a share of all θ lies below, from 400,000 of them; 0 where none is to."""
    if share <= 0:
        return 0.0
    values = torch.cat([theta.flatten() for theta in thetas])
    if len(values) > _SAMPLE:
        generator = torch.Generator(values.device).manual_seed(seed)
        drawn = torch.randint(len(values), (_SAMPLE,), generator=generator, device=values.device)
        values = values[drawn]
    return float(torch.quantile(values, share))


def _priced(theta: nn.Parameter, price: float) -> None:
    """Count the gradient by what a unit costs."""
    theta.register_hook(lambda gradient: gradient / price)
