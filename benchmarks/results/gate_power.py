"""What the latency gate says of equals and of injected slowdowns, in real runs on this machine.

python benchmarks/results/gate_power.py BUNDLE [RUNS] [--busy]

Each run measures the bundle beside itself as `bench` does (four openings), and slows one side by 0,
5 or 10 % (it spins on for that share of each call's own time). Gates: at most 5 % slower for equals
and for 10 %, at most 2 % for 5 %. With --busy another process keeps one core busy all the while.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gate import change_at_most, is_doubtful
from benchmarks.latency import Contender, Prepare, measure, speedup, workload_inputs
from benchmarks.rounds import Call, Sampling
from benchmarks.runtimes.onnxruntime import OrtModel
from compress.plan.workload import Workload

WORKLOAD = Workload(batch=1, sequence=64)
GATES = {0.0: 0.05, 0.05: 0.02, 0.10: 0.05}


def slowed(call: Call, share: float) -> Call:
    """The same call, and a share of its time on top."""

    def run() -> float:
        seconds = call() * (1 + share)
        end = time.perf_counter() + share * seconds / (1 + share)
        while time.perf_counter() < end:
            pass
        return seconds

    return run


@contextlib.contextmanager
def opened(graph: Path, share: float) -> Iterator[Prepare]:
    """A session that is so much slower than it needs to be."""
    model = OrtModel(graph)
    yield lambda inputs: slowed(model.prepare(inputs), share)


def verdict(graph: Path, share: float) -> tuple[str, float, float]:
    """One run: its verdict, ratio and half-width."""
    sides = [
        Contender(name=name, variant="", provider="", open=functools.partial(opened, graph, own))
        for name, own in (("base", 0.0), ("other", share))
    ]
    sampling = {WORKLOAD: Sampling(precision=0.01, seconds=8.0)}
    inputs = {WORKLOAD: workload_inputs(WORKLOAD, 1000)}
    base, other = measure(sides, [WORKLOAD], inputs, sampling)
    ratio, low, high = speedup(other, base)
    gate = change_at_most("latency", GATES[share], ratio, low, high)
    said = "inconclusive" if is_doubtful(base) else gate.verdict
    return said, ratio, (high - low) / 2


def spin() -> None:
    """Keep a core busy."""
    while True:
        pass


def main(bundle: str, runs: int, busy: bool) -> None:
    """Print one line a slowdown: how often the gate said what."""
    graph = Path(bundle) / "onnx" / "cpu-fp32"
    neighbour = multiprocessing.Process(target=spin, daemon=True)
    if busy:
        neighbour.start()
    for share, gate in GATES.items():
        found = [verdict(graph, share) for _ in range(runs)]
        counts = collections.Counter(said for said, _, _ in found)
        facts = {
            "slower": share,
            "gate": gate,
            "busy": busy,
            "runs": runs,
            "verdicts": dict(counts),
            "ratios": [round(ratio, 4) for _, ratio, _ in found],
            "half_widths": [round(width, 4) for _, _, width in found],
        }
        print(json.dumps(facts), flush=True)  # noqa: T201
    if busy:
        neighbour.terminate()


if __name__ == "__main__":
    counts = [a for a in sys.argv[2:] if a.isdigit()]
    main(sys.argv[1], int(counts[0]) if counts else 20, "--busy" in sys.argv)
