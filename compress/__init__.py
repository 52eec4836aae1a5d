"""From a fine-tuned encoder to a smaller one: score, plan, cut, repair, save, load.

Names are loaded when they are first asked for: what reads a file need not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.lazy import lazily

if TYPE_CHECKING:
    from compress.checkpoint.checkpoint import load, save
    from compress.model.binding import bind
    from compress.model.layout import Layout
    from compress.model.surgery import apply_
    from compress.plan.cost import CostModel, encoder_macs, encoder_parameters
    from compress.plan.plan import EncoderShape, LayerPlan, Plan
    from compress.pruner.prune import Pruned, PruneSpec, prune
    from compress.saliency.scorers import SCORE_NAMES, GradientScore, Scores

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
        "model.binding": "bind",
        "checkpoint.checkpoint": "load save",
        "plan.cost": "CostModel encoder_macs encoder_parameters",
        "saliency.scorers": "SCORE_NAMES GradientScore Scores",
        "model.layout": "Layout",
        "plan.plan": "EncoderShape LayerPlan Plan",
        "pruner.prune": "Pruned PruneSpec prune",
        "model.surgery": "apply_",
    },
)
