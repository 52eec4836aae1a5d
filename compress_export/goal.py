"""What is promised of a student's latency. Numbers alone."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Goal"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """What is promised: a speed-up over the unpruned float32 model, or milliseconds."""

    speedup: float | None = None
    latency_ms: float | None = None

    def budget_ms(self, dense_ms: float) -> float:
        """The most that a call may take, given what the unpruned model takes."""
        if self.latency_ms is not None:
            return self.latency_ms
        assert self.speedup is not None  # one of the two is given
        return dense_ms / self.speedup

    def __str__(self) -> str:
        return f"{self.speedup:g}×" if self.latency_ms is None else f"{self.latency_ms:g} ms"
