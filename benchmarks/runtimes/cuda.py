"""Run a graph on a CUDA device with IO binding, and as a CUDA graph.

A bound call leaves inputs and outputs on the device; it is over when the device is. A CUDA graph
replays all kernels of one shape by one launch: addresses are fixed, so each prepared workload has a
graph id and buffers of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.rounds import Call, timed
from benchmarks.runtimes.onnxruntime import CUDA, OrtModel
from compress.errors import BundleError

__all__ = ["CudaGraph", "bound_call"]

Inputs = Mapping[str, NDArray[np.int64]]

_NO_GRAPH = "-1"


class CudaGraph:
    """A graph whose runs are captured and replayed; fixed shapes, all nodes on the device.

    Args:
        path: The graph, or the folder of a variant.
        copies: Whether a timed call takes inputs from the host and puts outputs back.
    """

    def __init__(self, path: Path, *, copies: bool = True) -> None:
        self.model = OrtModel(path, CUDA, copies=copies, options={"enable_cuda_graph": "1"})
        self._ids = count(1)

    def __call__(self, inputs: Inputs) -> NDArray[np.float32]:
        """The graph's first output; captured only where it is timed, for a capture stays."""
        buffers = _Buffers(self.model, inputs, _NO_GRAPH)
        buffers.run()
        return buffers.read()

    def prepare(self, inputs: Inputs) -> Call:
        """Capture these shapes; the call replays them, with copies if they are wanted."""
        buffers = _Buffers(self.model, inputs, str(next(self._ids)))
        buffers.run()  # captures
        return timed(buffers.run_with_copies if self.model.copies else buffers.run)


def bound_call(model: OrtModel, inputs: Inputs) -> Call:
    """A call with inputs and outputs bound on the device, captured nowhere."""
    return timed(_Buffers(model, inputs, _NO_GRAPH).run)


class _Buffers:
    """Inputs and the first output of one workload, on the device at fixed addresses."""

    def __init__(self, model: OrtModel, inputs: Inputs, graph_id: str) -> None:
        self._session, self._graph = model.session, model.graph
        self._host = {n: np.ascontiguousarray(v) for n, v in model.feed(inputs).items()}
        self._device = {n: _on_device(v) for n, v in self._host.items()}
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", _NO_GRAPH)
        self._binding = self._session.io_binding()
        for name, value in self._device.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_output(model.output, "cuda")
        self.run()
        found = self._binding.get_outputs()[0]
        self._output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            found.shape(), found.numpy().dtype, "cuda", 0
        )
        self._binding.clear_binding_outputs()
        self._binding.bind_ortvalue_output(model.output, self._output)
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", graph_id)

    def run(self) -> None:
        """One inference, over when the device has finished."""
        try:
            self._binding.synchronize_inputs()
            self._session.run_with_iobinding(self._binding, self._options)
            self._binding.synchronize_outputs()
        except Exception as error:  # ONNX Runtime raises its own types, which share no base
            raise BundleError(
                f"{self._graph} must run on the device as a whole, found: "
                f"{' '.join(str(error).split())[:160]}; use the onnxruntime contender"
            ) from error

    def run_with_copies(self) -> None:
        """One inference that takes inputs from the host and puts the output back."""
        for name, value in self._device.items():
            value.update_inplace(self._host[name])
        self.run()
        self._output.numpy()

    def read(self) -> NDArray[np.float32]:
        """The output, on the host."""
        found: NDArray[np.float32] = self._output.numpy().astype(np.float32, copy=False)
        return found


def _on_device(values: NDArray[np.int64]) -> Any:
    place: Callable[..., Any] = onnxruntime.OrtValue.ortvalue_from_numpy
    return place(values, "cuda", 0)
