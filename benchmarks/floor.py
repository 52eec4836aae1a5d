"""How fast this machine could be: bytes and FLOPs of a graph over what it really moves and does.

The floor of a workload is the larger of two times: reading every weight once at the measured
bandwidth, and all matrix products at the measured rate of a large one. What a runtime takes beyond
that is overhead, small matrices, and everything that is not a matrix product.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import torch

from compress.plan.workload import Workload
from export.graph.session import CPU

__all__ = ["Peaks", "Work", "floor_ms", "floors", "measure_peaks", "work_of"]

Place: TypeAlias = tuple[str, str]

_PRODUCTS = frozenset(
    {"MatMul", "Gemm", "FusedMatMul", "Attention", "MatMulInteger", "DynamicQuantizeMatMul",
     "MatMulIntegerToFloat", "QLinearMatMul", "FusedGemm"}
)  # fmt: skip
_FOLDED = frozenset({"Concat", "Transpose", "Cast", "DynamicQuantizeLinear", "DequantizeLinear"})
"""What a runtime does to weights once, when it loads them."""
_SIZE = 2048
_TRIES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Peaks:
    """What a device does at best.

    Attributes:
        bytes_per_s: Read by a copy of a large array.
        flops_per_s: Of a large square matrix product in the graph's precision.
    """

    bytes_per_s: float
    flops_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a graph asks for, as its weights tell.

    Attributes:
        weight_bytes: Of matrices that are multiplied; embeddings are looked up and not read whole.
        products_per_token: Multiplications and additions with weights for each token.
        attention: Per layer, heads × head width: products with each other token.
    """

    weight_bytes: int
    products_per_token: int
    attention: tuple[int, ...]

    def flops(self, workload: Workload) -> float:
        """Floating point operations under a workload; two a multiplication and addition."""
        tokens = workload.batch * workload.sequence
        scores = 2 * workload.sequence * sum(self.attention)
        return 2.0 * tokens * (self.products_per_token + scores)


def work_of(path: Path) -> Work:
    """Read a graph's weights.

    Args:
        path: The graph, or the folder of a variant.
    """
    model = onnx.load(path / "model.onnx" if path.is_dir() else path, load_external_data=False)
    weights = {weight.name: weight for weight in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    size = products = 0
    attention = []
    for node in model.graph.node:
        if node.op_type not in _PRODUCTS:
            continue
        own = {weight.name: weight for weight in _matrices(node, weights, makers)}
        products += sum(int(np.prod(weight.dims)) for weight in own.values())
        size += sum(map(_bytes, own.values()))
        bias = weights.get(node.input[2]) if len(node.input) > 2 else None
        if node.op_type.endswith("Attention") and bias is not None:
            attention.append(bias.dims[0] // 3)
    return Work(weight_bytes=size, products_per_token=products, attention=tuple(attention))


def _matrices(node: Any, weights: Mapping[str, Any], makers: Mapping[str, Any]) -> Iterator[Any]:
    """The weight matrices that a node multiplies by, some of them joined or cast on the way."""
    for name in node.input:
        if name in weights:
            if len(weights[name].dims) == 2:
                yield weights[name]
        elif name in makers and makers[name].op_type in _FOLDED:
            yield from _matrices(makers[name], weights, makers)


def measure_peaks(device: str = "cpu", half: bool = False) -> Peaks:
    """Measure bandwidth and matrix products here; about a second.

    Args:
        device: cpu or cuda.
        half: In float16, as a `cuda-fp16` graph computes.
    """
    kind = torch.float16 if half else torch.float32
    a = torch.randn(_SIZE, _SIZE, device=device).to(kind)
    source = torch.zeros(32 * 2**20, device=device)
    target = torch.empty_like(source)
    product = _fastest(lambda: a @ a, device)
    copy = _fastest(lambda: target.copy_(source), device)
    # A copy reads and writes; weights are only read.
    moved = 2 * source.numel() * source.element_size()
    return Peaks(bytes_per_s=moved / copy, flops_per_s=2 * _SIZE**3 / product)


def floors(
    graphs: Mapping[Place, tuple[Path, str]], workloads: Sequence[Workload]
) -> list[dict[str, Any]]:
    """The floor of every graph under every workload, as plain rows.

    Args:
        graphs: Path and provider, by contender and variant. Those of int8 and bf16 are left out:
            how fast a device multiplies those is not measured here; so are those on a device that
            torch cannot measure.
        workloads: Of the measurement.
    """
    peaks: dict[tuple[str, bool], Peaks] = {}
    rows = []
    for (contender, variant), (path, provider) in graphs.items():
        device = "cpu" if provider == CPU else "cuda"
        if any(kind in variant for kind in ("int8", "bf16")) or not _measurable(device):
            continue
        place = (device, "fp16" in variant)
        peaks[place] = peaks.get(place) or measure_peaks(*place)
        work = work_of(path)
        for workload in workloads:
            where = {"batch": workload.batch, "sequence": workload.sequence}
            least = floor_ms(work, workload, peaks[place])
            rows.append({"contender": contender, "variant": variant, **where, "floor_ms": least})
    return rows


def _measurable(device: str) -> bool:
    return device == "cpu" or torch.cuda.is_available()


def floor_ms(work: Work, workload: Workload, peaks: Peaks) -> float:
    """Milliseconds that these weights take at the measured peaks: a yardstick, no law.

    Weights that stay in a processor's cache are read faster than from memory.
    """
    read = work.weight_bytes / peaks.bytes_per_s
    compute = work.flops(workload) / peaks.flops_per_s
    return 1e3 * max(read, compute)


def _fastest(run: Callable[[], Any], device: str) -> float:
    best = float("inf")
    for _ in range(_TRIES):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def _bytes(weight: Any) -> int:
    kind = onnx.helper.tensor_dtype_to_np_dtype(weight.data_type)
    return int(np.prod(weight.dims)) * int(kind.itemsize)
