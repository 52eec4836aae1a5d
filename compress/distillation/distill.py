"""One call from a student and its teacher to the trained student."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compress.distillation.learner import Learner
from compress.distillation.objective import Objective
from compress.distillation.teacher_outputs import LiveTeacher
from compress.model.batches import Progress, silent
from compress.plan.plan import Plan
from compress.training.spec import TrainSpec
from compress.training.trainer import Examples, train_

__all__ = ["distill"]


def distill(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    examples: Examples,
    tokenizer: PreTrainedTokenizerBase,
    spec: TrainSpec | None = None,
    *,
    objective: Objective | None = None,
    plan: Plan | None = None,
    folder: Path | None = None,
    progress: Progress = silent,
) -> PreTrainedModel:
    """Train a copy of a student to give what its teacher gives.

    Args:
        student: A smaller encoder with the teacher's task head and labels, such as one that was
            pruned from it. It is left as it is.
        teacher: The fine-tuned model, which runs beside the student. It is in evaluation mode and
            on the CPU afterwards. (`compress.distillation.cache_teacher` can cache its outputs.)
        examples: One mapping per example with `input_ids` and what else the tokenizer gives,
            unpadded; with `labels` if the objective weighs them.
        tokenizer: Pads the batches.
        spec: How to train. Default: two epochs of AdamW at 5e-5.
        objective: What is learnt. Default: logits and hidden states.
        plan: How the student was pruned from this teacher; pairs layers with those that they came
            from. Default: layers are paired evenly.
        folder: Where checkpoints are written, so that a training that was stopped continues from
            the last. Default: no checkpoints.
        progress: Called as `progress(label, done, total)`.

    Returns:
        The trained student, in evaluation mode, on the CPU.

    Raises:
        RecipeError: Student and teacher do not fit each other under the objective.
        TrainingError: The loss is no longer finite.
    """
    spec = spec or TrainSpec()
    objective = objective or Objective(layers="uniform" if plan is None else "source")
    source = LiveTeacher(teacher)
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)  # of new projections
        learner = Learner(copy.deepcopy(student), objective, source, plan)
    try:
        train_(learner, tokenizer, examples, spec, folder=folder, progress=progress)
    finally:
        source.rest()
    return learner.student
