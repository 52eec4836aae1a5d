"""Masks on single weights: Gao et al. 2021 as published, and what the paper compares it with.

No runtime of ours is faster for them; what they give is many tasks on one model (`bitmask`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

from compress.learned.adapt import Descent, Pace, first_values, open_gate
from compress.learned.gate import MaskGate, check_share
from compress.model.batches import Batches, Loss, Progress, forward, frozen, silent
from compress.model.layout import BoundSlot, Layout

__all__ = ["WEIGHT_SCORES", "FixedMasks", "WeightMasks", "WeightScore", "ranked_masks"]

WeightScore = Literal["random", "magnitude", "importance"]
WEIGHT_SCORES: tuple[WeightScore, ...] = get_args(WeightScore)


class _Masked(nn.Module):
    """A weight behind its mask."""

    def __init__(self, theta: nn.Parameter) -> None:
        super().__init__()
        self.theta = theta

    def forward(self, weight: Tensor) -> Tensor:
        """The weight, or 0."""
        return weight * open_gate(self.theta)


class WeightMasks(MaskGate):
    """One θ a weight of the encoder's projections.

    Args:
        layout: The model.
        share: Share of those weights that stay.
        descent: Schedule of θ.
    """

    def __init__(self, layout: Layout, share: float, descent: Descent | Pace) -> None:
        super().__init__()
        check_share(share)
        self.share, self._descent = share, descent
        generator = torch.Generator().manual_seed(descent.seed)
        self._slots = weight_slots(layout)
        self.thetas = [
            nn.Parameter(first_values(tuple(s.weight.shape), generator).data.to(s.weight.device))
            for s in self._slots.values()
        ]
        self._optimizer = descent.optimizer(self.thetas)

    @contextmanager
    def standing(self, layout: Layout) -> Iterator[None]:
        """Within the block, every weight stands behind its mask."""
        with ExitStack() as stack:
            for slot, theta in zip(self._slots.values(), self.thetas, strict=True):
                register_parametrization(slot.owner, slot.name, _Masked(theta))
                stack.callback(
                    remove_parametrizations, slot.owner, slot.name, leave_parametrized=False
                )
            yield

    def draw(self, done: float) -> None:
        """Nothing to draw: masks follow from θ."""

    def optimizer(self) -> torch.optim.Optimizer:
        """Plain gradient descent."""
        return self._optimizer

    def moved(self, done: float) -> bool:
        """Decay; over once the share of negative θ is what was asked for."""
        self._descent.settle(self._optimizer, done, self.share)
        return self.kept() <= self.share

    def kept(self) -> float:
        """Share of positive θ."""
        total = sum(theta.numel() for theta in self.thetas)
        return sum(int((theta > 0).sum()) for theta in self.thetas) / total

    def masks(self) -> dict[str, Tensor]:
        """By parameter, where θ is among the largest: exactly the share that was asked for."""
        values = dict(zip(self._slots, (t.detach() for t in self.thetas), strict=True))
        return _largest(values, self.share)


class FixedMasks(MaskGate):
    """A mask that stands while something else is trained, such as a task head.

    Args:
        masks: Masks by the parameter's name.
    """

    def __init__(self, masks: dict[str, Tensor]) -> None:
        super().__init__()
        self._masks = masks

    @contextmanager
    def standing(self, layout: Layout) -> Iterator[None]:
        """Within the block, what is masked is 0."""
        parameters = dict(layout.model.named_parameters())
        before = {name: parameters[name].detach().clone() for name in self._masks}
        with torch.no_grad():
            for name, mask in self._masks.items():
                parameters[name].mul_(mask.to(parameters[name].device))
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in before.items():
                    parameters[name].copy_(value)

    def draw(self, done: float) -> None:
        """Nothing to draw."""

    def optimizer(self) -> torch.optim.Optimizer:
        """Of nothing."""
        return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.0)


def ranked_masks(
    layout: Layout,
    kind: WeightScore,
    share: float,
    batches: Batches,
    loss: Loss,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """Masks of the weights that score highest over all layers, True where one stays.

    Args:
        layout: The model.
        kind: By chance; by size; or by ``|w · Σ ∂L/∂w|`` (Molchanov et al. 2019), the paper's IMP
            as we read it.
        share: Share of the weights that stay.
        batches: Data for `importance`.
        loss: Sum over the batch.
        seed: Seed of random choices.
        progress: Called after every batch.
    """
    check_share(share)
    slots = weight_slots(layout)
    if kind == "random":
        generator = torch.Generator().manual_seed(seed)
        values = {n: torch.rand(s.weight.shape, generator=generator) for n, s in slots.items()}
    elif kind == "magnitude":
        values = {name: slot.weight.detach().abs() for name, slot in slots.items()}
    else:
        values = _importance(layout, slots, batches, loss, progress)
    return _largest(values, share)


def weight_slots(layout: Layout) -> dict[str, BoundSlot]:
    """The encoder's projections, each once, by the parameter's name in the model."""
    names = {id(parameter): name for name, parameter in layout.model.named_parameters()}
    found: dict[str, BoundSlot] = {}
    for layer in layout.layers:
        for slot in layer.slots:
            if slot.weight.ndim > 1 and id(slot.weight) in names:
                found.setdefault(names[id(slot.weight)], slot)
    return found


def _importance(
    layout: Layout, slots: dict[str, BoundSlot], batches: Batches, loss: Loss, progress: Progress
) -> dict[str, Tensor]:
    with frozen(layout.model):
        weights = {name: slot.weight.requires_grad_(True) for name, slot in slots.items()}
        for done, batch in enumerate(batches, start=1):
            loss(forward(layout.model, batch), batch).backward()
            progress("scoring weights", done, len(batches))
        found = {n: (w.detach() * _gradient(w)).abs() for n, w in weights.items()}
        for weight in weights.values():
            weight.grad = None
    return found


def _gradient(weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad


def _largest(values: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Where a value is among the largest of all."""
    flat = torch.cat([v.flatten() for v in values.values()])
    kept = torch.zeros_like(flat, dtype=torch.bool)
    kept[flat.topk(round(share * len(flat)), sorted=False).indices] = True
    parts = kept.split([v.numel() for v in values.values()])
    return {
        name: part.reshape(value.shape)
        for (name, value), part in zip(values.items(), parts, strict=True)
    }
