"""Cost models as data: what an encoder of a given shape costs, and what one unit adds.

Pure arithmetic on `EncoderShape`; knows no torch and no device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compress.plan.plan import EncoderShape
from compress.validation import at_least, validate

__all__ = ["ROUNDING", "CostModel", "CostUnit", "Prices", "encoder_macs", "encoder_parameters"]

Array = NDArray[np.float64]
CostUnit = Literal["macs", "parameters", "ms"]

ROUNDING = 1e-9
"""Relative tolerance of costs: sums of the same prices may differ by rounding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """What layers cost by their sizes: all that the search for a plan knows of a machine.

    Attributes:
        unit: Unit of the cost.
        fixed: Cost that stays when every layer is removed.
        attention: Cost of one use of a layer's attention with 0, 1, … heads: `(n_heads + 1,)`.
        ffn: Cost of one use of a layer's FFN with 0, 1, … neurons: `(ffn_width + 1,)`.
        per_use: Whether a shared layer costs as often as it is used; parameters cost once.
    """

    unit: CostUnit
    fixed: float
    attention: Array
    ffn: Array
    per_use: bool = True

    def total(self, shape: EncoderShape) -> float:
        """What an encoder of that shape costs."""
        sizes = zip(self.uses(shape), shape.n_heads, shape.ffn_widths, strict=True)
        layers = (uses * (self.attention[n] + self.ffn[width]) for uses, n, width in sizes)
        return self.fixed + float(sum(layers))

    def uses(self, shape: EncoderShape) -> tuple[int, ...]:
        """How many times each physical layer costs."""
        return shape.uses if self.per_use else (1,) * shape.n_layers


@dataclass(frozen=True, kw_only=True, slots=True)
class CostModel:
    """What heads and neurons cost, in multiply-accumulates or in parameters.

    Attributes:
        unit: `macs` (one sequence) or `parameters`.
        sequence: Tokens per sequence; attention's score and context products grow with its
            square. Parameters do not depend on it.
    """

    unit: Literal["macs", "parameters"]
    sequence: int = 128

    def __post_init__(self) -> None:
        validate(self, sequence=at_least(1))

    def head(self, shape: EncoderShape, layer: int) -> int:
        """Cost of one head of physical layer `layer`, over all its uses."""
        if self.unit == "parameters":
            return shape.head_weights + shape.head_biases
        products = 2 * self.sequence * shape.head_width
        return shape.uses[layer] * self.sequence * (shape.head_weights + products)

    def neuron(self, shape: EncoderShape, layer: int) -> int:
        """Cost of one FFN neuron of physical layer `layer`, over all its uses."""
        if self.unit == "parameters":
            return shape.neuron_weights + shape.neuron_biases
        return shape.uses[layer] * self.sequence * shape.neuron_weights

    def fixed(self, shape: EncoderShape) -> int:
        """Cost that no choice of heads and neurons removes while the layers stay."""
        return sum(shape.layer_parameters) if self.unit == "parameters" else 0

    def prices(self, shape: EncoderShape) -> Prices:
        """The same as prices by size, those of layer 0: layers of an encoder have equal units.

        What layers hold beside their units (norms, output biases) is, in the mean over layers, a
        part of the FFN's price.
        """
        per_use = self.unit == "macs"
        uses = shape.uses[0] if per_use else 1
        own = self.fixed(shape) / shape.n_layers
        heads: Array = np.arange(max(shape.n_heads) + 1.0) * (self.head(shape, 0) / uses)
        neurons: Array = np.arange(max(shape.ffn_widths) + 1.0) * (self.neuron(shape, 0) / uses)
        return Prices(
            unit=self.unit, fixed=0.0, attention=heads, ffn=neurons + own, per_use=per_use
        )

    def total(self, shape: EncoderShape) -> int:
        """Cost of the whole encoder."""
        return self.fixed(shape) + sum(
            shape.n_heads[i] * self.head(shape, i) + shape.ffn_widths[i] * self.neuron(shape, i)
            for i in range(shape.n_layers)
        )


def encoder_macs(shape: EncoderShape, sequence: int) -> int:
    """Multiply-accumulates of the encoder's layers for one sequence of `sequence` tokens.

    Per layer at length n: heads cost ``n (4 d d_h) + 2 n² d_h`` each and neurons ``2 n d`` each
    (the count of Kwon et al. 2022, ``efficiency/mac.py``); norms and activations are not counted.
    Gated FFNs have ``3 n d`` a neuron. Projections of relative positions (DeBERTa, XLNet) are
    counted as if each token had one; their products with queries and keys are not.
    """
    return CostModel(unit="macs", sequence=sequence).total(shape)


def encoder_parameters(shape: EncoderShape) -> int:
    """Parameters of the encoder's layers, without embeddings and task head."""
    return CostModel(unit="parameters").total(shape)
