"""Run a graph with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.rounds import Call, timed
from compress.errors import BundleError
from export.graph.session import CPU, CUDA, TENSORRT, cuda_available, open_session

__all__ = ["CPU", "CUDA", "TENSORRT", "OrtModel", "cuda_available"]

Inputs = Mapping[str, NDArray[np.int64]]


class OrtModel:
    """A graph on one provider; see `export.graph.session.open_session` for what it refuses.

    Args:
        path: The graph, or the folder of a variant.
        provider: `CPUExecutionProvider`, `CUDAExecutionProvider` or `TensorrtExecutionProvider`.
        threads: Of the CPU provider; all cores that the process may use by default.
        copies: Whether a timed call on a device takes inputs from the host and puts outputs back.
        options: Of the provider.
        profile: Start of the file that ONNX Runtime's profiler is to write, if it is to.
    """

    def __init__(
        self,
        path: Path,
        provider: str = CPU,
        threads: int | None = None,
        *,
        copies: bool = True,
        options: Mapping[str, str] | None = None,
        profile: Path | None = None,
    ) -> None:
        self.graph = path / "model.onnx" if path.is_dir() else path
        self.provider, self.copies = provider, copies
        self.session = open_session(self.graph, provider, threads, options, profile)
        graph_inputs = self.session.get_inputs()
        self.names = tuple(i.name for i in graph_inputs)
        self.output = self.session.get_outputs()[0].name
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

    def prepare(self, inputs: Inputs) -> Call:
        """A timed call; on a device, without `copies`, by IO binding of what already lies there."""
        if self.provider == CPU or self.copies:
            return timed(partial(self, inputs))
        from benchmarks.runtimes.cuda import bound_call

        return bound_call(self, inputs)

    def feed(self, inputs: Inputs) -> dict[str, NDArray[np.int64]]:
        """What the graph takes of the inputs, in its own shapes."""
        strange = [name for name in self.names if name not in inputs]
        if strange:
            raise BundleError(
                f"{self.graph} must take inputs among {', '.join(inputs)}, found "
                f"{', '.join(strange)}; export it with the tokenizer's names"
            )
        feed = {name: inputs[name] for name in self.names}
        if self._choices:
            feed = {name: values[:, None] for name, values in feed.items()}
        return feed

    def _run(self, names: list[str] | None, inputs: Inputs) -> list[NDArray[np.float32]]:
        feed = self.feed(inputs)
        try:
            found: list[NDArray[np.float32]] = self.session.run(names, feed)
        except Exception as error:  # ONNX Runtime raises its own types, which share no base
            shape = "×".join(map(str, feed[self.names[0]].shape))
            raise BundleError(
                f"{self.graph} must run on inputs of {shape} tokens, found: "
                f"{' '.join(str(error).split())[:160]}; cut texts at fewer tokens (--max-length)"
            ) from error
        return [values.astype(np.float32, copy=False) for values in found]
