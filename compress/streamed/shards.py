"""Weights written a part at a time, as a sharded safetensors checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from compress.checkpoint.checkpoint import INDEX, WEIGHTS

__all__ = ["Shards"]


class Shards:
    """A checkpoint's weights on their way into a folder.

    Args:
        folder: An existing folder; file names are final once `close` is called.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: list[list[str]] = []
        self._n_bytes = 0

    def add(self, tensors: Mapping[str, Tensor]) -> None:
        """Write one part; nothing of it is kept in memory."""
        if not tensors:
            return
        whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        save_file(whole, self._part(len(self._parts)), metadata={"format": "pt"})
        self._parts.append(list(whole))
        self._n_bytes += sum(tensor.nbytes for tensor in whole.values())

    def close(self) -> None:
        """Give the parts their names, and write the index where there are several."""
        count = len(self._parts)
        if count == 1:
            self._part(0).rename(self._folder / WEIGHTS)
            return
        where: dict[str, str] = {}
        for number, names in enumerate(self._parts):
            final = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
            self._part(number).rename(self._folder / final)
            where |= dict.fromkeys(names, final)
        index = {"metadata": {"total_size": self._n_bytes}, "weight_map": where}
        (self._folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number}.safetensors"
