"""From a fine-tuned encoder to a smaller one: score, plan, cut, repair, save, load.

Names are loaded when they are first asked for: what reads a file need not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.lazy import lazily

if TYPE_CHECKING:
    from compress.binding import bind
    from compress.checkpoint import load, save
    from compress.cost import CostModel, encoder_macs, encoder_parameters
    from compress.importance import SCORE_NAMES, GradientScore, Scores
    from compress.layout import Layout
    from compress.plan import EncoderShape, LayerPlan, Plan
    from compress.pruning import Pruned, PruneSpec, prune
    from compress.surgery import apply_

__all__ = [
    "SCORE_NAMES",
    "CostModel",
    "EncoderShape",
    "GradientScore",
    "LayerPlan",
    "Layout",
    "Plan",
    "PruneSpec",
    "Pruned",
    "Scores",
    "apply_",
    "bind",
    "encoder_macs",
    "encoder_parameters",
    "load",
    "prune",
    "save",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "binding": "bind",
        "checkpoint": "load save",
        "cost": "CostModel encoder_macs encoder_parameters",
        "importance": "SCORE_NAMES GradientScore Scores",
        "layout": "Layout",
        "plan": "EncoderShape LayerPlan Plan",
        "pruning": "Pruned PruneSpec prune",
        "surgery": "apply_",
    },
)
