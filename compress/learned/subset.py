"""Differentiable subset pruning: exactly K heads, by a Gumbel soft top-K.

Li, Cotterell and Sachan 2021 (arXiv 2108.04657), as in their code: K softmaxes in turn,
each without what the ones before it took, at a temperature that falls exponentially.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.errors import BudgetError
from compress.learned.gate import UnitGate, Values, ones
from compress.plan.plan import EncoderShape, LayerPlan, Plan
from compress.validation import above, at_least, validate

__all__ = ["SubsetGate", "SubsetSpec", "soft_top_k", "temperature"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SubsetSpec:
    """Which subset, and how it hardens.

    Attributes:
        n_heads: Heads of the whole encoder that stay.
        hottest, coldest: Temperature at the start and at the end; the paper's.
        learning_rate: Learning rate of the heads' logits. Default: the paper's.
        seed: Seed of the Gumbel noise.
    """

    n_heads: int
    hottest: float = 1000.0
    coldest: float = 1e-8
    learning_rate: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        validate(
            self, n_heads=at_least(1), hottest=above(0), coldest=above(0), learning_rate=above(0)
        )


class SubsetGate(UnitGate):
    """One logit a head; neurons stay.

    Args:
        shape: The model's shape.
        spec: Subset and schedule.

    Raises:
        BudgetError: There are not so many heads.
    """

    def __init__(self, shape: EncoderShape, spec: SubsetSpec) -> None:
        super().__init__()
        most = sum(shape.n_heads)
        if not 1 <= spec.n_heads < most:
            raise BudgetError(
                f"heads to keep must be 1 to {most - 1}, found {spec.n_heads}; correct it"
            )
        self.shape, self.spec = shape, spec
        self.logits = nn.Parameter(torch.zeros(most))
        self._generator = torch.Generator().manual_seed(spec.seed)

    def values(self, done: float) -> Values:
        """Soft factors that add up to K."""
        uniform = torch.rand(len(self.logits), generator=self._generator).clamp(1e-9, 1 - 1e-7)
        noisy = self.logits - (-uniform.log()).log()
        mask = soft_top_k(noisy, self.spec.n_heads, temperature(self.spec, done))
        return Values(heads=mask.split(self.shape.n_heads), neurons=ones(self.shape.ffn_widths))

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW without decay."""
        return torch.optim.AdamW([self.logits], lr=self.spec.learning_rate, weight_decay=0.0)

    def kept(self) -> float:
        """Share of the heads."""
        return self.spec.n_heads / len(self.logits)

    def plan(self) -> Plan:
        """The K heads of the largest logits."""
        chosen = torch.zeros_like(self.logits, dtype=torch.bool)
        chosen[self.logits.detach().topk(self.spec.n_heads).indices] = True
        layers = tuple(
            LayerPlan(
                source=i,
                heads=tuple(part.nonzero().flatten().tolist()),
                neurons=tuple(range(self.shape.ffn_widths[i])),
            )
            for i, part in enumerate(chosen.split(self.shape.n_heads))
        )
        return Plan(shape=self.shape, layers=layers, depth=self.shape.depth)


def temperature(spec: SubsetSpec, done: float) -> float:
    """Falls exponentially from the hottest to the coldest.

    Example:
        >>> spec = SubsetSpec(n_heads=1, hottest=100, coldest=0.01)
        >>> [round(temperature(spec, t), 4) for t in (0, 0.5, 1)]
        [100.0, 1.0, 0.01]
    """
    hot, cold = math.log(spec.hottest), math.log(spec.coldest)
    return math.exp(hot - done * (hot - cold))


def soft_top_k(logits: Tensor, k: int, temperature: float) -> Tensor:
    """The sum of K softmaxes, each with less of what those before it took: `(n,)`, sum K.

    Cold, it is K ones; while it is warm, a logit far above the rest is taken more than once.

    ``p⁽ʲ⁾ = softmax(r⁽ʲ⁾/τ)``, ``r⁽ʲ⁺¹⁾ = r⁽ʲ⁾ + log(1 − p⁽ʲ⁾)`` (Li et al. 2021).

    Args:
        logits: `(n,)`, noise added.
        k: Number of elements that are chosen.
        temperature: Above 0; the colder, the nearer to K ones.
    """
    others = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    left, total = logits.double(), torch.zeros_like(logits, dtype=torch.float64)
    for _ in range(k):
        warm = left / temperature
        total = total + warm.softmax(0)
        # log(1 − p) of all but itself: 1 − p has no digits left where p is all but 1
        rest = warm.expand(len(warm), -1).masked_fill(others, -torch.inf).logsumexp(1)
        left = left + (rest - warm.logsumexp(0))
    return total.to(logits.dtype)
