"""What to run and how, as data: a contender can be opened here, or in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.rounds import Call
from export.graph.session import CPU

__all__ = ["RUNTIMES", "Runtime", "RuntimeName", "Spec", "open_runtime"]

Inputs: TypeAlias = Mapping[str, NDArray[np.int64]]
RuntimeName: TypeAlias = Literal[
    "onnxruntime", "cuda-graph", "torch", "torch-compile", "openvino", "openvino-bf16"
]
RUNTIMES: tuple[RuntimeName, ...] = (
    "onnxruntime",
    "cuda-graph",
    "torch",
    "torch-compile",
    "openvino",
    "openvino-bf16",
)


class Runtime(Protocol):
    """A model that runs."""

    def __call__(self, inputs: Inputs) -> NDArray[np.float32]:
        """Its first output, logits of most heads: `(batch, n_labels)`."""
        ...

    def prepare(self, inputs: Inputs) -> Call:
        """Put inputs where they are needed; the call that it gives runs once and tells seconds."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """One way to run one model.

    Attributes:
        runtime: Which library, in which mode.
        path: A graph or its folder; for torch a checkpoint.
        provider: Where; for torch and OpenVINO too, in ONNX Runtime's names.
        copies: Whether copies between host and device are part of the time; on the CPU there are
            none.
    """

    runtime: RuntimeName
    path: Path
    provider: str = CPU
    copies: bool = True

    def to_dict(self) -> dict[str, Any]:
        """As plain data; `from_dict` reads it."""
        return asdict(self) | {"path": str(self.path)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Spec:
        """Read what `to_dict` gave."""
        return cls(**{**data, "path": Path(data["path"])})


def open_runtime(spec: Spec) -> Runtime:
    """Load the model; only the library that runs it is imported.

    Raises:
        ToolchainError: There is no model, the library is missing, or it cannot run it there.
    """
    if spec.runtime == "onnxruntime":
        from benchmarks.runtimes.onnxruntime import OrtModel

        return OrtModel(spec.path, spec.provider, copies=spec.copies)
    if spec.runtime == "cuda-graph":
        from benchmarks.runtimes.cuda import CudaGraph

        return CudaGraph(spec.path, copies=spec.copies)
    if spec.runtime in ("torch", "torch-compile"):
        from benchmarks.runtimes.torch import open_torch

        compiled = spec.runtime == "torch-compile"
        return open_torch(spec.path, spec.provider, compiled=compiled, copies=spec.copies)
    from benchmarks.runtimes.openvino import OpenVinoModel

    return OpenVinoModel(spec.path, "bf16" if spec.runtime == "openvino-bf16" else "f32")
