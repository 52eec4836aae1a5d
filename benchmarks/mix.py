"""Latency over a mix of workloads, with the intervals that its parts give. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.latency import Latency, speedup
from benchmarks.neighbours import BUSY
from compress.plan.workload import Mix

__all__ = ["MixedLatency", "over_mix"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedLatency:
    """One contender over a mix, beside the anchor; ends are those of 95 % intervals.

    Attributes:
        milliseconds, milliseconds_low, milliseconds_high: Mean of the workloads' medians, weighted
            by their shares.
        speedup, speedup_low, speedup_high: The anchor's over it.
        others: Largest share of the cores that other processes took; `None` where a measurement
            was too short to say.
    """

    milliseconds: float
    milliseconds_low: float
    milliseconds_high: float
    speedup: float
    speedup_low: float
    speedup_high: float
    others: float | None

    def to_dict(self) -> dict[str, float | None]:
        """As the report writes it; an end that too few rounds bound is null."""
        return {k: None if v is not None and math.isinf(v) else v for k, v in asdict(self).items()}


def over_mix(anchor: Sequence[Latency], sample: Sequence[Latency], mix: Mix) -> MixedLatency:
    """Put the workloads of a mix together.

    Each workload's relative error counts by its share of the time; errors of different workloads
    are independent.

    Args:
        anchor: The unpruned model's samples, one a workload.
        sample: The contender's, of the same rounds.
        mix: Shares of the workloads.
    """
    by_workload = {s.workload: (a, s) for a, s in zip(anchor, sample, strict=True)}
    parts = [(share, *by_workload[workload]) for workload, share in mix.shares]
    times = [share * own.percentile_ms(50) for share, _, own in parts]
    total = sum(times)
    weights = [time / total for time in times]
    ratios = [speedup(base, own) for _, base, own in parts]
    ratio = sum(w * value for w, (value, _, _) in zip(weights, ratios, strict=True))
    clocks = [(own.percentile_ms(50), *own.interval_ms(50)) for _, _, own in parts]
    slow, fast = _ends(total, weights, clocks)
    of_anchor = [w * value / ratio for w, (value, _, _) in zip(weights, ratios, strict=True)]
    low, high = _ends(ratio, of_anchor, ratios)
    return MixedLatency(
        milliseconds=total,
        milliseconds_low=slow,
        milliseconds_high=fast,
        speedup=ratio,
        speedup_low=low,
        speedup_high=high,
        others=_most_taken([own.others for _, _, own in parts]),
    )


def _most_taken(shares: Sequence[float | None]) -> float | None:
    """The largest share that others took; unknown where a part is, and no other was busy."""
    known = max((share for share in shares if share is not None), default=0.0)
    return None if None in shares and known <= BUSY else known


def _ends(
    value: float, weights: Sequence[float], parts: Sequence[tuple[float, float, float]]
) -> tuple[float, float]:
    pairs = list(zip(weights, parts, strict=True))
    down = math.hypot(*(w * math.log(v / max(low, 1e-12)) for w, (v, low, _) in pairs))
    up = math.hypot(*(w * math.log(high / v) for w, (v, _, high) in pairs))
    return value * math.exp(-down), value * math.exp(up)
