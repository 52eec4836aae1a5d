"""Run a graph with ONNX Runtime, on the provider that was asked for or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from compress.errors import BundleError, ProviderError

__all__ = ["CPU", "CUDA", "OrtModel", "cuda_available"]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

Inputs = Mapping[str, NDArray[np.int64]]


class OrtModel:
    """A session on one provider.

    Args:
        path: The graph, or the folder of a variant.
        provider: `CPUExecutionProvider` or `CUDAExecutionProvider`.
        threads: Of the CPU provider; all cores that the process may use by default.

    Raises:
        BundleError: There is no graph, or ONNX Runtime cannot read it.
        ProviderError: ONNX Runtime opened the session on another provider.
    """

    def __init__(self, path: Path, provider: str = CPU, threads: int | None = None) -> None:
        graph = path / "model.onnx" if path.is_dir() else path
        if not graph.is_file():
            raise BundleError(f"{graph} must be an ONNX file, found none; export the model first")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        # An idle session's threads spin on for a while and would slow whichever contender is next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if provider == CUDA:
            onnxruntime.preload_dlls()
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=[provider])
        except Exception as error:  # ONNX Runtime raises its own types, which share no base
            raise BundleError(
                f"{graph} must open in ONNX Runtime, found: {' '.join(str(error).split())[:200]}"
            ) from error
        self.graph = graph
        self.provider = self._session.get_providers()[0]
        if self.provider != provider:
            raise ProviderError(
                f"{graph} must run on {provider}, found a session on {self.provider}; check the "
                "device with `compress-export doctor`, or ask for a cpu variant"
            )
        self.names = tuple(i.name for i in self._session.get_inputs())

    def __call__(self, inputs: Inputs) -> NDArray[np.float32]:
        """Logits `(batch, n_labels)`; inputs that the graph does not take are left aside.

        Raises:
            BundleError: The graph refuses the inputs (a sequence longer than its positions).
        """
        feed = {name: inputs[name] for name in self.names}
        try:
            logits: NDArray[np.float32] = self._session.run(["logits"], feed)[0]
        except Exception as error:  # ONNX Runtime raises its own types, which share no base
            shape = "×".join(map(str, feed[self.names[0]].shape))
            raise BundleError(
                f"{self.graph} must run on inputs of {shape} tokens, found: "
                f"{' '.join(str(error).split())[:160]}; give it shorter sequences"
            ) from error
        return logits.astype(np.float32, copy=False)


def cuda_available() -> bool:
    """Whether a CUDA device can be used; the provider's mere presence does not say it."""
    import torch

    return CUDA in onnxruntime.get_available_providers() and torch.cuda.is_available()
