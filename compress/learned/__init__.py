"""Masks that are learnt by gradient descent: one loop, one module per kind of gate.

Each ends in a plan like any other. For comparison with plans that need no training; adapting by
pruning is also a way to fine-tune.
"""

from __future__ import annotations

from compress.learned.adapt import AdaptGate, AdaptSpec, Descent, Pace
from compress.learned.bitmask import BitMasks, wearing
from compress.learned.gate import MaskGate, UnitGate
from compress.learned.hard_concrete import HardConcreteGate, HardConcreteSpec
from compress.learned.loop import MaskSpec, learn_masks
from compress.learned.movement import MovementGate, MovementSpec
from compress.learned.subset import SubsetGate, SubsetSpec
from compress.learned.unstructured import (
    WEIGHT_SCORES,
    FixedMasks,
    WeightMasks,
    WeightScore,
    ranked_masks,
)

__all__ = [
    "WEIGHT_SCORES",
    "AdaptGate",
    "AdaptSpec",
    "BitMasks",
    "Descent",
    "FixedMasks",
    "HardConcreteGate",
    "HardConcreteSpec",
    "MaskGate",
    "MaskSpec",
    "MovementGate",
    "MovementSpec",
    "Pace",
    "SubsetGate",
    "SubsetSpec",
    "UnitGate",
    "WeightMasks",
    "WeightScore",
    "learn_masks",
    "ranked_masks",
    "wearing",
]
