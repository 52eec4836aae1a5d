"""Memory that a bundle takes, measured in a process of its own.

Run as a module (`python -m benchmarks.memory GRAPH PROVIDER BATCH SEQUENCE VOCABULARY`), it
prints one JSON line; `measure_memory` starts it and reads that line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compress.errors import BundleError
from compress.plan.workload import Workload

__all__ = ["Memory", "measure_memory"]


_PROCESSES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """What a session adds to a process that has ONNX Runtime loaded.

    Attributes:
        contender, variant: Whose.
        loaded_bytes: Resident memory added by opening the session.
        working_bytes: Added after five runs of the workload; the median of several processes.
        working_low, working_high: The least and the most of them.
        device_bytes: Held on the GPU by then; unknown on the CPU.
    """

    contender: str
    variant: str
    loaded_bytes: int
    working_bytes: int
    working_low: int
    working_high: int
    device_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the report writes it."""
        return asdict(self)


def measure_memory(
    contender: str, variant: str, graph: Path, provider: str, workload: Workload, vocab_size: int
) -> Memory:
    """Open the graph in fresh processes, one after the other, and read their resident memory.

    Raises:
        BundleError: The process failed; the message ends with its last line.
    """
    found = [_one(graph, provider, workload, vocab_size) for _ in range(_PROCESSES)]
    middle = sorted(found, key=lambda figures: figures["working_bytes"])[_PROCESSES // 2]
    working = [figures["working_bytes"] for figures in found]
    return Memory(
        contender=contender,
        variant=variant,
        working_low=min(working),
        working_high=max(working),
        **middle,
    )


def _one(graph: Path, provider: str, workload: Workload, vocab_size: int) -> dict[str, Any]:
    sizes = (workload.batch, workload.sequence, vocab_size)
    # -P: never import from the folder that the user happens to stand in.
    command = [sys.executable, "-P", "-m", "benchmarks.memory", str(graph), provider]
    command += map(str, sizes)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BundleError(f"{graph} must open in a process of its own, found: {last}")
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def _main(graph: str, provider: str, batch: str, sequence: str, vocab_size: str) -> None:
    import psutil

    from benchmarks.gpu import process_bytes
    from benchmarks.latency import workload_inputs
    from benchmarks.runtimes.onnxruntime import CPU, OrtModel

    process = psutil.Process()
    workload = Workload(batch=int(batch), sequence=int(sequence))
    inputs = workload_inputs(workload, int(vocab_size))
    before = process.memory_info().rss
    model = OrtModel(Path(graph), provider)
    loaded = process.memory_info().rss
    for _ in range(5):
        model(inputs)
    working = process.memory_info().rss
    figures = {
        "loaded_bytes": loaded - before,
        "working_bytes": working - before,
        "device_bytes": None if provider == CPU else process_bytes(),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
