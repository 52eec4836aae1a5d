"""How a way down is cut into steps, and how much data each step looks at. Numbers alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from compress.model.batches import Batches, first_within, n_tokens

if TYPE_CHECKING:
    from compress.pruner.walk import FamilySpec

__all__ = ["falling_costs", "held_out", "is_near", "looked_at"]

_MOST, _A_LITTLE = 0.25, 0.25
_NEAR = 0.1
_LEAST_TOKENS = 30_000
_HELD = 16


def held_out(batches: Batches) -> tuple[Batches, Batches]:
    """A sixteenth of the batches, one at least, to judge by; and the rest, to fit on."""
    count = max(1, len(batches) // _HELD)
    return batches[:count], batches[count:]


def looked_at(seen: Batches, spec: FamilySpec) -> Batches:
    """What statistics, and repairs on the way to a target, look at."""
    most = spec.tokens
    if most is None:
        most = max(_LEAST_TOKENS, sum(map(n_tokens, seen)) // 3)
    return first_within(seen, most)


def falling_costs(now: float, budget: float, spec: FamilySpec) -> Iterator[float]:
    """What each step may cost: geometrically from the present cost to the budget."""
    if now <= budget:
        return
    needed = max(1, math.ceil(math.log(now / budget) / -math.log(1 - _MOST) - _A_LITTLE))
    n_steps = spec.steps or needed
    if (spec.ranking == "kprune" and not spec.steps) or is_near(now, budget):
        n_steps = 1
    for i in range(1, n_steps + 1):
        yield max(now * (budget / now) ** (i / n_steps), budget)


def is_near(now: float, budget: float) -> bool:
    """So little is to go, as after a missed promise, that a search would find nothing."""
    return budget > (1 - _NEAR) * now
