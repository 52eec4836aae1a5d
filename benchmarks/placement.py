"""Where ONNX Runtime really runs each node: asked of its own profiler.

A session on CUDA may leave nodes to the CPU and copy back and forth, without a word.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.latency import workload_inputs
from benchmarks.runtimes.onnxruntime import CPU, OrtModel
from compress.errors import ProviderError
from compress.plan.workload import Workload

__all__ = ["Placement", "check_on_device", "check_placement", "placement", "read_profile"]

Inputs = Mapping[str, NDArray[np.int64]]

# What computes shapes is put on the CPU on purpose, and costs nothing.
_SHAPES = frozenset(
    {"Shape", "Size", "Gather", "Unsqueeze", "Squeeze", "Concat", "Cast", "Slice", "Range",
     "ConstantOfShape", "Add", "Sub", "Mul", "Div", "Equal", "Where", "Expand", "Reshape"}
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Nodes that ran, by provider and kind.

    Attributes:
        nodes: How many ran on each provider.
        copies: Memcpy nodes between host and device.
        strays: Kinds of nodes on the CPU, other than shape arithmetic, of a session elsewhere.
    """

    nodes: dict[str, int]
    copies: int
    strays: dict[str, int]


def placement(path: Path, provider: str, inputs: Inputs) -> Placement:
    """Run once under the profiler.

    Args:
        path: The graph, or the folder of a variant.
        provider: That it is meant to run on.
        inputs: Of a typical workload.
    """
    with tempfile.TemporaryDirectory(prefix="compress-export-") as folder:
        model = OrtModel(path, provider, profile=Path(folder) / "profile")
        model(inputs)
        trace = Path(model.session.end_profiling())
        return read_profile(json.loads(trace.read_text(encoding="utf-8")), provider)


def check_on_device(path: Path, provider: str, vocab_size: int) -> None:
    """Refuse a graph that does not run as a whole on a device; on the CPU there is nothing to ask.

    Raises:
        ProviderError: Names the nodes that the CPU would run.
    """
    if provider != CPU:
        inputs = workload_inputs(Workload(batch=2, sequence=8), vocab_size)
        check_placement(path, placement(path, provider, inputs), provider)


def read_profile(events: list[dict[str, Any]], provider: str) -> Placement:
    """What a profile of ONNX Runtime says of a session on `provider`."""
    ran = [event["args"] for event in events if event.get("cat") == "Node"]
    ran = [args for args in ran if args.get("provider")]
    on_cpu = Counter(args["op_name"] for args in ran if args["provider"] == CPU)
    strays = {} if provider == CPU else {
        kind: count for kind, count in on_cpu.items()
        if kind not in _SHAPES and not kind.startswith("Memcpy")
    }  # fmt: skip
    return Placement(
        nodes=dict(Counter(args["provider"] for args in ran)),
        copies=sum(args["op_name"].startswith("Memcpy") for args in ran),
        strays=strays,
    )


def check_placement(path: Path, found: Placement, provider: str) -> None:
    """Refuse a session that leaves work to the CPU.

    Raises:
        ProviderError: Names the nodes; they are counted.
    """
    if not found.strays and not found.copies:
        return
    parts = [f"{count} {kind}" for kind, count in sorted(found.strays.items())]
    if found.copies:
        parts.append(f"{found.copies} Memcpy")
    raise ProviderError(
        f"{path} must run on {provider} as a whole, found on the CPU: {', '.join(parts)}; export "
        f"the variant for that device (onnxruntime {onnxruntime.__version__} may lack a kernel), "
        "`bench --allow-cpu-nodes` measures it all the same"
    )
