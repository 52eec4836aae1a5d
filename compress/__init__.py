"""From a fine-tuned encoder to a smaller one: score, plan, cut, repair, save, load.

Names are loaded when they are first asked for: what reads a file need not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.lazy import lazily

if TYPE_CHECKING:
    from compress import errors
    from compress.calibration import calibration_batches
    from compress.checkpoint.checkpoint import load, save
    from compress.checkpoint.expand import expand
    from compress.distillation.distill import distill
    from compress.distillation.objective import Objective
    from compress.model.binding import bind
    from compress.model.layout import Layout
    from compress.model.surgery import apply_
    from compress.plan.cost import CostModel, encoder_macs, encoder_parameters
    from compress.plan.plan import EncoderShape, LayerPlan, Plan
    from compress.pruner.prune import prune
    from compress.pruner.pruner import PrunedModel, Pruner
    from compress.pruner.spec import PruneSpec
    from compress.saliency.scorers import SCORE_NAMES, GradientScore, Scores
    from compress.training.spec import TrainSpec

    __version__: str

__all__ = [
    "SCORE_NAMES",
    "CostModel",
    "EncoderShape",
    "GradientScore",
    "LayerPlan",
    "Layout",
    "Objective",
    "Plan",
    "PruneSpec",
    "PrunedModel",
    "Pruner",
    "Scores",
    "TrainSpec",
    "__version__",
    "apply_",
    "bind",
    "calibration_batches",
    "distill",
    "encoder_macs",
    "encoder_parameters",
    "errors",
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
        "pruner.prune": "prune",
        "pruner.pruner": "PrunedModel Pruner",
        "pruner.spec": "PruneSpec",
        "model.surgery": "apply_",
        "distillation.distill": "distill",
        "distillation.objective": "Objective",
        "training.spec": "TrainSpec",
    },
    modules=["errors"],
)
