"""A model as torch runs it, in evaluation mode: eager, or compiled."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.rounds import Call, timed
from compress.checkpoint import load
from compress.errors import ProviderError
from export.session import CUDA, usable_cores

__all__ = ["TorchModel", "open_torch"]

Inputs = Mapping[str, NDArray[np.int64]]


class TorchModel:
    """A live model as a runtime.

    Args:
        model: In evaluation mode; stays where it is.
        forward: What runs it: the model itself, or its compiled form.
        copies: Whether a timed call on a device takes inputs from the host and puts logits back.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        forward: Callable[..., Any] | None = None,
        *,
        copies: bool = True,
    ) -> None:
        self.model = model
        self._forward = forward or model
        self._copies = copies
        self._takes = inspect.signature(model.forward).parameters

    def __call__(self, inputs: Inputs) -> NDArray[np.float32]:
        """The model's first output, logits of most: `(batch, n_labels)`.

        Inputs that it does not take are left aside.
        """
        found: NDArray[np.float32] = self._run(self._tensors(inputs)).float().cpu().numpy()
        return found

    def prepare(self, inputs: Inputs) -> Call:
        """A timed call, over when the device has finished."""
        if self.model.device.type == "cpu":
            tensors = self._tensors(inputs)
            return timed(lambda: self._run(tensors))
        return timed(self._device_call(inputs))

    def _device_call(self, inputs: Inputs) -> Callable[[], object]:
        if self._copies:
            return lambda: self(inputs)
        tensors = self._tensors(inputs)

        def run() -> None:
            self._run(tensors)
            torch.cuda.synchronize()

        return run

    def _tensors(self, inputs: Inputs) -> dict[str, Tensor]:
        taken = {name: values for name, values in inputs.items() if name in self._takes}
        return {n: torch.from_numpy(v).to(self.model.device) for n, v in taken.items()}

    def _run(self, tensors: Mapping[str, Tensor]) -> Tensor:
        with torch.inference_mode():
            found: Tensor = self._forward(**tensors)[0]
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
    if not compiled:
        return TorchModel(model, copies=copies)
    forward = torch.compile(model, dynamic=False)
    found = TorchModel(model, forward, copies=copies)
    try:
        found({name: np.ones((2, 8), np.int64) for name in ("input_ids", "attention_mask")})
    except Exception as error:  # whatever a compiler may say
        raise ProviderError(
            f"torch must compile {path}, found: {' '.join(str(error).split())[:160]}; install a "
            "C++ compiler, or leave the contender out"
        ) from error
    return found
