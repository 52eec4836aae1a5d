"""Shapes of work, and weighted mixes of them. Numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress.errors import DataError
from compress.validation import at_least, validate

__all__ = ["Mix", "Workload", "length_mix"]


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Workload:
    """One shape of work: sequences at a time, tokens each, none of them padding."""

    batch: int
    sequence: int

    def __post_init__(self) -> None:
        validate(self, batch=at_least(1), sequence=at_least(1))

    def __str__(self) -> str:
        return f"{self.batch} × {self.sequence}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """Workloads with the share of calls that each has; shares add up to 1."""

    shares: tuple[tuple[Workload, float], ...]

    @classmethod
    def of(cls, weights: Sequence[tuple[Workload, float]]) -> Mix:
        """A mix from weights of any scale.

        Raises:
            DataError: A weight is not above 0, a workload comes twice, or there is none.
        """
        workloads = [workload for workload, _ in weights]
        if not weights or len(set(workloads)) < len(workloads):
            raise DataError(
                "a mix must name each workload once, found "
                f"{', '.join(map(str, workloads)) or 'none'}; correct it"
            )
        if any(weight <= 0 for _, weight in weights):
            raise DataError("weights of a mix must be above 0, found one that is not; correct it")
        total = sum(weight for _, weight in weights)
        return cls(shares=tuple((workload, weight / total) for workload, weight in weights))

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """Without their shares."""
        return tuple(workload for workload, _ in self.shares)

    def __str__(self) -> str:
        if len(self.shares) == 1:
            return str(self.workloads[0])
        return ", ".join(f"{share:.0%} {workload}" for workload, share in self.shares)


def length_mix(lengths: Sequence[int], batch: int, longest: int, bins: int = 4) -> Mix:
    """A mix of at most `bins` lengths that stands for a histogram of real ones.

    Lengths are split at their quantiles; each part counts by its share, at the multiple of 8 that
    its longest member is padded to, `longest` at most.

    Example:
        >>> print(length_mix([5] * 50 + [30] * 50, batch=1, longest=512, bins=2))
        50% 1 × 8, 50% 1 × 32
    """
    parts = np.array_split(np.sort(np.array(lengths)), min(bins, len(lengths)))
    shares: dict[Workload, float] = {}
    for part in parts:
        padded = min(max(8, -(-int(part[-1]) // 8) * 8), longest)
        workload = Workload(batch=batch, sequence=padded)
        shares[workload] = shares.get(workload, 0.0) + len(part) / len(lengths)
    return Mix.of(sorted(shares.items()))
