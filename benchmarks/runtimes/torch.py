"""A model as torch runs it, in evaluation mode: eager, or compiled."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo.config
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.rounds import Call, timed
from compress.checkpoint.checkpoint import load
from compress.errors import BundleError, ProviderError
from export.graph.session import CUDA, usable_cores

__all__ = ["TorchModel", "open_torch"]

Inputs = Mapping[str, NDArray[np.int64]]
Forward = Callable[..., Any]

_MOST_SHAPES = 256
"""Workloads that torch may compile for, before it gives up on compiling."""


class TorchModel:
    """A live model as a runtime.

    Args:
        model: In evaluation mode; stays where it is.
        compiled: Whether by `torch.compile`: for each workload's own shape where it is timed, for
            any shape where it is called.
        copies: Whether a timed call on a device takes inputs from the host and puts logits back.
    """

    def __init__(
        self, model: PreTrainedModel, *, compiled: bool = False, copies: bool = True
    ) -> None:
        self.model = model
        self._any_shape: Forward = torch.compile(model, dynamic=True) if compiled else model
        self._one_shape: Forward = torch.compile(model, dynamic=False) if compiled else model
        self._copies = copies
        self._takes = inspect.signature(model.forward).parameters

    def __call__(self, inputs: Inputs) -> NDArray[np.float32]:
        """The model's first output, logits of most: `(batch, n_labels)`.

        Inputs that it does not take are left aside.
        """
        return _on_host(_run(self._any_shape, self._tensors(inputs)))

    def prepare(self, inputs: Inputs) -> Call:
        """A timed call, over when the device has finished."""
        forward, tensors = self._one_shape, self._tensors(inputs)
        with torch._dynamo.config.patch(recompile_limit=_MOST_SHAPES):
            _run(forward, tensors)  # compiles
        if self.model.device.type == "cpu":
            return timed(lambda: _run(forward, tensors))
        if self._copies:
            return timed(lambda: _on_host(_run(forward, self._tensors(inputs))))

        def run() -> None:
            _run(forward, tensors)
            torch.cuda.synchronize()

        return timed(run)

    def _tensors(self, inputs: Inputs) -> dict[str, Tensor]:
        taken = {name: values for name, values in inputs.items() if name in self._takes}
        return {n: torch.from_numpy(v).to(self.model.device) for n, v in taken.items()}


def _run(forward: Forward, tensors: Mapping[str, Tensor]) -> Tensor:
    try:
        with torch.inference_mode():
            found: Tensor = forward(**tensors)[0]
    except (RuntimeError, IndexError) as error:  # too long, or out of memory
        shape = "×".join(map(str, tensors["input_ids"].shape))
        raise BundleError(
            f"torch must run the model on inputs of {shape} tokens, found: "
            f"{' '.join(str(error).split())[:160]}; give it less, or a lower --max-length"
        ) from error
    return found


def _on_host(values: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = values.float().cpu().numpy()
    return found


def open_torch(path: Path, provider: str, *, compiled: bool, copies: bool = True) -> TorchModel:
    """A checkpoint, stock or pruned, as torch runs it; float16 on a CUDA device.

    Args:
        path: Of the checkpoint.
        provider: ONNX Runtime's name of where.
        compiled: Whether by `torch.compile`, which needs a C++ compiler on the CPU.
        copies: As for `TorchModel`.

    Raises:
        CheckpointError: There is no model.
        ProviderError: torch has no such device, or cannot compile.
    """
    torch.set_num_threads(usable_cores())
    model = load(path).eval()
    if provider == CUDA:
        if not torch.cuda.is_available():
            raise ProviderError(
                f"torch must run {path} on CUDA, found no device that answers; install a CUDA "
                "build of torch, or leave the contender out"
            )
        model = model.to("cuda", torch.float16)
    found = TorchModel(model, compiled=compiled, copies=copies)
    try:
        found({name: np.ones((2, 8), np.int64) for name in ("input_ids", "attention_mask")})
    except Exception as error:  # whatever a compiler may say
        if not compiled:
            raise
        raise ProviderError(
            f"torch must compile {path}, found: {' '.join(str(error).split())[:160]}; install a "
            "C++ compiler, or leave the contender out"
        ) from error
    return found
