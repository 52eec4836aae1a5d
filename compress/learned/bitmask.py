"""Several tasks on one model: for each a bit a weight, and a task head of its own.

The backbone is to the bit what it was after each task; a task's file is a bit a weight.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor
from transformers import PreTrainedModel

from compress.errors import CheckpointError

__all__ = ["BitMasks", "wearing"]

_KIND = "compress-export bit masks"


@dataclass(frozen=True, kw_only=True, slots=True)
class BitMasks:
    """What one task keeps of a backbone.

    Attributes:
        kept: By the parameter's name: True where a weight stays, in the parameter's shape.
        own: Parameters of the task itself by name: its head.
    """

    kept: Mapping[str, Tensor]
    own: Mapping[str, Tensor]

    @property
    def share(self) -> float:
        """Of the masked weights, those that stay."""
        total = sum(mask.numel() for mask in self.kept.values())
        return sum(int(mask.sum()) for mask in self.kept.values()) / max(total, 1)

    def save(self, path: Path) -> None:
        """Write one `.safetensors` file: packed bits, and the task's own parameters."""
        shapes = {name: list(mask.shape) for name, mask in self.kept.items()}
        arrays = {f"bits.{n}": np.packbits(m.flatten().numpy()) for n, m in self.kept.items()}
        arrays |= {f"own.{n}": p.detach().cpu().numpy() for n, p in self.own.items()}
        save_file(arrays, path, {"kind": _KIND, "shapes": json.dumps(shapes)})

    @classmethod
    def load(cls, path: Path) -> BitMasks:
        """Read what `save` wrote.

        Raises:
            CheckpointError: The file cannot be read, or holds something else.
        """
        try:
            with safe_open(path, "np") as file:
                facts = file.metadata() or {}
                if facts.get("kind") != _KIND:
                    raise CheckpointError(f"{path} must hold bit masks, found other tensors")
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} must hold bit masks, found: {error}") from error
        shapes: dict[str, list[int]] = json.loads(facts["shapes"])
        return cls(
            kept={n: _unpacked(arrays[f"bits.{n}"], shape) for n, shape in shapes.items()},
            own={
                name.removeprefix("own."): torch.from_numpy(values)
                for name, values in arrays.items()
                if name.startswith("own.")
            },
        )


def _unpacked(bits: NDArray[np.uint8], shape: list[int]) -> Tensor:
    flat = np.unpackbits(bits, count=int(np.prod(shape)))
    return torch.from_numpy(flat.astype(bool)).reshape(shape)


@contextmanager
def wearing(model: PreTrainedModel, masks: BitMasks) -> Iterator[None]:
    """Within the block, `model` is the task's; then it is, to the bit, what it was.

    Raises:
        CheckpointError: The masks are of another model.
    """
    parameters = dict(model.named_parameters())
    _check_fit(parameters, masks)
    gone = {n: ~mask.to(parameters[n].device) for n, mask in masks.kept.items()}
    removed = {n: parameters[n].detach()[mask].clone() for n, mask in gone.items()}
    before = {name: parameters[name].data for name in masks.own}
    try:
        with torch.no_grad():
            for name, mask in gone.items():
                parameters[name][mask] = 0.0
        for name, value in masks.own.items():
            parameters[name].data = value.to(parameters[name]).clone()
        yield
    finally:
        with torch.no_grad():
            for name, values in removed.items():
                parameters[name][gone[name]] = values
        for name, value in before.items():
            parameters[name].data = value


def _check_fit(parameters: Mapping[str, Tensor], masks: BitMasks) -> None:
    for name, mask in masks.kept.items():
        found = parameters.get(name)
        if found is None or found.shape != mask.shape:
            raise CheckpointError(
                f"bit masks must be of the model that wears them, found {name} of "
                f"{tuple(mask.shape)}, and {'none' if found is None else tuple(found.shape)} in "
                "the model; name the backbone that they were learnt on"
            )
    missing = [name for name in masks.own if name not in parameters]
    if missing:
        raise CheckpointError(
            f"the model must have the task's {missing[0]}, found no such parameter; load it with "
            "a head for sequence classification"
        )
