"""Run a graph with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.errors import BundleError
from export.session import CPU, CUDA, cuda_available, open_session

__all__ = ["CPU", "CUDA", "OrtModel", "cuda_available"]

Inputs = Mapping[str, NDArray[np.int64]]


class OrtModel:
    """A graph on one provider; see `export.session.open_session` for what it refuses.

    Args:
        path: The graph, or the folder of a variant.
        provider: `CPUExecutionProvider` or `CUDAExecutionProvider`.
        threads: Of the CPU provider; all cores that the process may use by default.
    """

    def __init__(self, path: Path, provider: str = CPU, threads: int | None = None) -> None:
        self.graph = path / "model.onnx" if path.is_dir() else path
        self.provider = provider
        self._session = open_session(self.graph, provider, threads)
        graph_inputs = self._session.get_inputs()
        self.names = tuple(i.name for i in graph_inputs)
        self.output = self._session.get_outputs()[0].name
        self._choices = len(graph_inputs[0].shape) == 3

    def __call__(self, inputs: Inputs) -> NDArray[np.float32]:
        """The graph's first output, logits of most heads: `(batch, n_labels)`.

        Inputs that the graph does not take are left aside; a multiple-choice graph is given each
        sequence as the one choice of a row.

        Raises:
            BundleError: The graph refuses the inputs (a sequence longer than its positions).
        """
        return self._run([self.output], inputs)[0]

    def outputs(self, inputs: Inputs) -> list[NDArray[np.float32]]:
        """All outputs, in the graph's order; as when called."""
        return self._run(None, inputs)

    def _run(self, names: list[str] | None, inputs: Inputs) -> list[NDArray[np.float32]]:
        feed = {name: inputs[name] for name in self.names}
        if self._choices:
            feed = {name: values[:, None] for name, values in feed.items()}
        try:
            found: list[NDArray[np.float32]] = self._session.run(names, feed)
        except Exception as error:  # ONNX Runtime raises its own types, which share no base
            shape = "×".join(map(str, feed[self.names[0]].shape))
            raise BundleError(
                f"{self.graph} must run on inputs of {shape} tokens, found: "
                f"{' '.join(str(error).split())[:160]}; give it shorter sequences"
            ) from error
        return [values.astype(np.float32, copy=False) for values in found]
