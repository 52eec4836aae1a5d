"""Run a graph with OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.rounds import Call, timed
from compress.errors import BundleError, ProviderError
from export.graph.session import usable_cores

__all__ = ["OpenVinoModel"]

Inputs = Mapping[str, NDArray[np.int64]]
_KNOWN = {"input_ids", "attention_mask", "token_type_ids"}


class OpenVinoModel:
    """A portable graph, compiled by OpenVINO.

    Args:
        path: The graph, or the folder of a variant.
        precision: Of float operations. OpenVINO by itself takes bf16 where the CPU has it, which
            is faster and less exact; here it does so only when asked.

    Raises:
        ProviderError: OpenVINO is not installed, or the CPU has no bf16.
        BundleError: There is no graph, or OpenVINO cannot compile it.
    """

    def __init__(self, path: Path, precision: Literal["f32", "bf16"] = "f32") -> None:
        self.graph = path / "model.onnx" if path.is_dir() else path
        core = _core()
        if precision == "bf16":
            _check_bf16(core)
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": usable_cores(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        if not self.graph.is_file():
            raise BundleError(f"{self.graph} must be an ONNX file, found none; export it first")
        try:
            self._compiled = core.compile_model(str(self.graph), "CPU", settings)
        except RuntimeError as error:
            raise BundleError(
                f"{self.graph} must compile in OpenVINO, found: "
                f"{' '.join(str(error).split())[:160]}; give it the portable variant"
            ) from error
        self._request = self._compiled.create_infer_request()
        self.names = tuple(i.get_any_name() for i in self._compiled.inputs)
        strange = set(self.names) - _KNOWN
        if strange:
            raise BundleError(
                f"{self.graph} must take inputs among {', '.join(sorted(_KNOWN))}, found "
                f"{', '.join(sorted(strange))}; export it with the tokenizer's names"
            )

    def __call__(self, inputs: Inputs) -> NDArray[np.float32]:
        """The graph's first output, logits of most heads: `(batch, n_labels)`."""
        try:
            found = self._request.infer({name: inputs[name] for name in self.names})
        except RuntimeError as error:
            shape = "×".join(map(str, inputs[self.names[0]].shape))
            raise BundleError(
                f"{self.graph} must run on inputs of {shape} tokens in OpenVINO, found: "
                f"{' '.join(str(error).split())[:160]}; cut texts at fewer tokens (--max-length)"
            ) from error
        logits: NDArray[np.float32] = np.array(found[0], np.float32)
        return logits

    def prepare(self, inputs: Inputs) -> Call:
        """A timed call on these inputs, which it shares; so it has a request of its own."""
        request = self._compiled.create_infer_request()
        feed = {name: np.ascontiguousarray(inputs[name]) for name in self.names}
        return timed(lambda: request.infer(feed, share_inputs=True, share_outputs=True))


def _core() -> Any:
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise ProviderError(
            "openvino must be installed for an OpenVINO contender, found it missing; "
            "pip install 'compress-export[openvino]'"
        ) from error
    return openvino.Core()


def _check_bf16(core: Any) -> None:
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in able:
        raise ProviderError(
            f"openvino-bf16 needs a CPU with bf16, found {', '.join(able)}; use openvino"
        )
