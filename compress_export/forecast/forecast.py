"""From a recipe that has been checked to what its run will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from compress.model.binding import bind
from compress.streamed import paged
from compress_export.context import Context
from compress_export.forecast.memory import peak_bytes
from compress_export.forecast.rates import Rates, measure_rates, n_padded
from compress_export.forecast.seconds import step_seconds
from compress_export.forecast.work import work_of
from compress_export.stages import STEPS, Step

__all__ = ["Forecast", "duration", "forecast", "rates_of"]

_ON_GPU: tuple[Step, ...] = ("recover", "evaluate", "bench")
"""Steps that use a GPU where there is one; rates are the CPU's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What a run will take, on this machine as busy as it now is.

    Attributes:
        seconds: By step.
        peak_bytes: Memory of the whole run at its peak.
        untold: Steps that will be done and are not in the figures: a GPU does them.
    """

    seconds: Mapping[Step, float]
    peak_bytes: int
    untold: Sequence[Step] = ()

    @property
    def total_seconds(self) -> float:
        """Of all steps."""
        return sum(self.seconds.values())

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers."""
        return {
            "seconds": {step: round(seconds, 1) for step, seconds in self.seconds.items()},
            "total_seconds": round(self.total_seconds, 1),
            "peak_bytes": self.peak_bytes,
            "untold": list(self.untold),
        }

    def __str__(self) -> str:
        told = f"about {duration(self.total_seconds)}, {self.peak_bytes / 1e9:.1f} GB"
        return told + (f" without {', '.join(self.untold)} on the GPU" if self.untold else "")


def forecast(
    context: Context,
    steps: Sequence[Step] = STEPS,
    *,
    streamed: bool = False,
    rates: Rates | None = None,
) -> Forecast:
    """Foretell the run of the context's recipe, from the beginning and with nothing cached.

    A few seconds of measuring on the model itself say how fast this machine is.

    Args:
        context: Of a recipe that has been checked.
        steps: That will be done.
        streamed: The model is mapped, and pruned with one layer in memory at a time.
        rates: Of this machine on this model, if they have been measured.
    """
    untold = [step for step in steps if torch.cuda.is_available() and step in _ON_GPU]
    steps = [step for step in steps if step not in untold]
    rates = rates or rates_of(context, streamed=streamed)
    work = work_of(context, rates, steps, streamed=streamed)
    return Forecast(
        seconds=step_seconds(work, rates),
        peak_bytes=peak_bytes(work),
        untold=untold,
    )


def rates_of(context: Context, *, streamed: bool = False) -> Rates:
    """How fast this machine is on the context's model; a few seconds.

    Args:
        context: With calibration data.
        streamed: The model is mapped, and one layer is in memory at a time.
    """
    batches = context.calibration()
    usual = sorted(batches, key=n_padded)[len(batches) // 2]
    with paged(bind(context.teacher)) if streamed else nullcontext():
        return measure_rates(context.teacher, usual)


def duration(seconds: float) -> str:
    """Words for a time that is known roughly.

    Example:
        >>> duration(840), duration(42), duration(9000)
        ('14 minutes', '40 seconds', '2.5 hours')
    """
    if seconds < 90:
        return f"{max(round(seconds, -1), 10):.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
