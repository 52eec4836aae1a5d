"""The record that every kind of importance gives. Knows numbers and names only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.model.layout import UNIT_OF, SublayerName

__all__ = ["Scores"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """How much each head and neuron matters; larger matters more.

    Attributes:
        kind: The method's name.
        heads: Per layer, `(n_heads,)`.
        neurons: Per layer, `(ffn_width,)`, on the same scale as `heads`.
        examples: Sequences that were looked at; 0 for methods that look at none.
    """

    kind: str
    heads: tuple[Array, ...]
    neurons: tuple[Array, ...]
    examples: int = 0

    def of(self, index: int, sublayer: SublayerName) -> Array:
        """The scores of one sublayer's units: `(units,)`."""
        by_layer: tuple[Array, ...] = getattr(self, UNIT_OF[sublayer])
        return by_layer[index]

    def save(self, path: Path) -> None:
        """Write the scores as one `.npz` file."""
        arrays = {f"heads.{i}": a for i, a in enumerate(self.heads)}
        arrays |= {f"neurons.{i}": a for i, a in enumerate(self.neurons)}
        with path.open("wb") as file:
            np.savez(file, kind=np.array(self.kind), examples=np.array(self.examples), **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Scores:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as data:
            n_layers = sum(name.startswith("heads.") for name in data.files)
            return cls(
                kind=str(data["kind"]),
                heads=tuple(data[f"heads.{i}"] for i in range(n_layers)),
                neurons=tuple(data[f"neurons.{i}"] for i in range(n_layers)),
                examples=int(data["examples"]),
            )
