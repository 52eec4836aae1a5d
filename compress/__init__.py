"""From a fine-tuned encoder to a smaller one: score, plan, cut, repair, save, load."""

from __future__ import annotations

from compress.binding import bind
from compress.checkpoint import load, save
from compress.cost import CostModel, encoder_macs, encoder_parameters
from compress.importance import SCORE_NAMES, GradientScore, Scores
from compress.layout import Layout
from compress.plan import EncoderShape, LayerPlan, Plan
from compress.prune import Pruned, PruneSpec, prune
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
