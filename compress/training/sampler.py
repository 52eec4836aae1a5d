"""In which order examples are seen: batches of like length, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

__all__ = ["LengthGrouped"]

_MEGABATCH = 50
"""Batches that are drawn at random together, and then sorted by length."""


class LengthGrouped(Sampler[int]):
    """Random batches of like length; the order depends on the seed and the epoch alone.

    Args:
        lengths: Lengths of the examples, in tokens.
        chunk: Examples of one update, over all processes.
        seed: Seed of the order.
    """

    def __init__(self, lengths: Sequence[int], chunk: int, seed: int) -> None:
        self._lengths, self._chunk, self._seed = np.asarray(lengths), chunk, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch's order comes next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self._seed, self._epoch])
        order = generator.permutation(len(self._lengths))
        chunks: list[NDArray[np.int64]] = []
        for start in range(0, len(order), _MEGABATCH * self._chunk):
            some = order[start : start + _MEGABATCH * self._chunk]
            some = some[np.argsort(self._lengths[some], kind="stable")]
            chunks += np.split(some, range(self._chunk, len(some), self._chunk))
        whole = [chunk for chunk in chunks if len(chunk) == self._chunk]
        rest = [chunk for chunk in chunks if len(chunk) < self._chunk]
        for place in generator.permutation(len(whole)):
            yield from whole[place].tolist()
        for chunk in rest:
            yield from chunk.tolist()
