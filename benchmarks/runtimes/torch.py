"""A model as torch runs it, in evaluation mode."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

__all__ = ["TorchModel"]


class TorchModel:
    """A live model as a runtime.

    Args:
        model: In evaluation mode; stays where it is.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._takes = inspect.signature(model.forward).parameters

    def __call__(self, inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """The model's logits, `(batch, n_labels)`; what it does not take is left aside."""
        taken = {name: values for name, values in inputs.items() if name in self._takes}
        tensors = {n: torch.from_numpy(v).to(self.model.device) for n, v in taken.items()}
        with torch.inference_mode():
            logits = self.model(**tensors).logits
        found: NDArray[np.float32] = logits.float().cpu().numpy()
        return found
