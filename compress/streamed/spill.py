"""What a backward pass needs of its forward pass, kept on disk in between."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compress.streamed.mapped import Resident, forget

__all__ = ["spilled"]

_LEAST = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    """A tensor on disk."""

    path: Path
    shape: torch.Size
    dtype: torch.dtype

    def take(self) -> Tensor:
        raw = torch.from_numpy(np.fromfile(self.path, dtype=np.uint8))
        self.path.unlink()
        return raw.view(self.dtype).reshape(self.shape).clone()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Weight:
    """A weight, or a view of one, that is read from its file again."""

    view: Tensor
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int

    def take(self) -> Tensor:
        copy = self.view.clone()
        forget([self.view])
        return copy.as_strided(self.shape, self.stride, self.offset)


@contextmanager
def spilled(resident: Resident, folder: Path | None = None) -> Iterator[None]:
    """Within the block, what autograd saves lies on disk, but small tensors.

    Args:
        resident: What `paged` gives: weights are not saved, but read from their files again.
        folder: Folder for temporary files. Default: the system's.
    """
    with tempfile.TemporaryDirectory(prefix="compress-export-", dir=folder) as temporary:
        place, count = Path(temporary), itertools.count()

        def pack(tensor: Tensor) -> Tensor | _Kept | _Weight:
            view = resident.view_of(tensor)
            if view is not None:
                offset = int(tensor.storage_offset())
                return _Weight(view=view, shape=tensor.shape, stride=tensor.stride(), offset=offset)
            if tensor.nbytes < _LEAST or tensor.device.type != "cpu":
                return tensor
            path = place / str(next(count))
            _numpy(tensor.detach()).tofile(path)
            return _Kept(path=path, shape=tensor.shape, dtype=tensor.dtype)

        def unpack(kept: Tensor | _Kept | _Weight) -> Tensor:
            return kept if isinstance(kept, Tensor) else kept.take()

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            yield


def _numpy(tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The bytes of a tensor, whatever it holds."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
