"""From a fine-tuned encoder to a smaller one: score, plan, cut, repair, save, load.

Names are loaded when they are first asked for: what reads a file need not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.lazy import lazily

if TYPE_CHECKING:
    from compress.calibration import calibration_batches
    from compress.checkpoint.checkpoint import load, save
    from compress.checkpoint.expand import expand
    from compress.model.binding import bind
    from compress.model.layout import Layout
    from compress.model.surgery import apply_
    from compress.plan.cost import CostModel, encoder_macs, encoder_parameters
    from compress.plan.plan import EncoderShape, LayerPlan, Plan
    from compress.pruner.prune import Pruned, PruneSpec, prune
    from compress.pruner.walk import FamilySpec, Member, Walk
    from compress.saliency.scorers import SCORE_NAMES, GradientScore, Scores

__all__ = [
    "SCORE_NAMES",
    "CostModel",
    "EncoderShape",
    "FamilySpec",
    "GradientScore",
    "LayerPlan",
    "Layout",
    "Member",
    "Plan",
    "PruneSpec",
    "Pruned",
    "Scores",
    "Walk",
    "apply_",
    "bind",
    "calibration_batches",
    "encoder_macs",
    "encoder_parameters",
    "expand",
    "load",
    "prune",
    "save",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "model.binding": "bind",
        "calibration": "calibration_batches",
        "checkpoint.checkpoint": "load save",
        "checkpoint.expand": "expand",
        "plan.cost": "CostModel encoder_macs encoder_parameters",
        "saliency.scorers": "SCORE_NAMES GradientScore Scores",
        "model.layout": "Layout",
        "plan.plan": "EncoderShape LayerPlan Plan",
        "pruner.prune": "Pruned PruneSpec prune",
        "pruner.walk": "FamilySpec Member Walk",
        "model.surgery": "apply_",
    },
)
