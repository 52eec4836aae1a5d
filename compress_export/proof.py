"""The measurement that a promise is judged by: made after a search, independent of it.

A search ends with the first measurement that looks good, which is biased for that reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.latency import Contender, measure, workload_inputs
from benchmarks.mix import MixedLatency, over_mix
from benchmarks.rounds import Sampling
from compress.model.batches import Progress
from compress.plan.workload import Mix

__all__ = ["prove"]

_ROUNDS = 400
_SECONDS = 12.0


def prove(
    contenders: Sequence[Contender],
    mix: Mix,
    vocab_size: int,
    precision: float,
    openings: int,
    progress: Progress,
) -> list[MixedLatency]:
    """Measure contenders over a mix, interleaved, in several openings.

    Args:
        contenders: The unpruned model first.
        mix: Workloads and their shares.
        vocab_size: Of the made-up token ids.
        precision: Relative half-width of the interval of each ratio that is precise enough.
        openings: How many times all contenders are opened anew.
        progress: Told after every workload.

    Returns:
        One a contender, in order; the first beside itself.
    """
    workloads = [workload for workload, _ in mix.shares]
    sampling = Sampling(precision=precision, rounds=_ROUNDS, seconds=_SECONDS)
    measured = measure(
        contenders,
        workloads,
        {w: workload_inputs(w, vocab_size) for w in workloads},
        dict.fromkeys(workloads, sampling),
        progress,
        openings,
    )
    n = len(contenders)
    by_contender = [measured[i::n] for i in range(n)]
    return [over_mix(by_contender[0], own, mix) for own in by_contender]
