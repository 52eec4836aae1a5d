"""What a plan, or a dropped layer, does to the outputs: measured on calibration data."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from compress.model.batches import Batches, Progress, first_within, split_within
from compress.model.binding import bind
from compress.model.layout import Layout
from compress.model.outputs import Outputs, runner
from compress.model.surgery import apply_
from compress.plan.plan import Plan
from compress.pruner.spec import PruneSpec
from compress.repair.least_squares import repair_
from compress.repair.targets import TeacherTargets
from compress.search.depth import leave_one_out
from compress.search.plan_search import Judge
from compress.search.reachable import tokens_needed

__all__ = ["Trials"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trials:
    """Tries changes of a student that is in memory.

    Attributes:
        teacher: The unpruned model.
        batches: Calibration data.
        outputs: How outputs are compared.
        spec: How to prune; says how much data a trial looks at.
        progress: Called as `progress(label, done, total)`.
    """

    teacher: Layout
    batches: Batches
    outputs: Outputs
    spec: PruneSpec
    progress: Progress

    def judge(self, student: Layout, so_far: Plan) -> Judge:
        """Mean divergence of a plan's student from the unpruned model, after a quick repair.

        Args:
            student: The student that the plan is for; copied for each trial.
            so_far: What of the unpruned model it keeps.
        """
        tokens = max(self.spec.judged, tokens_needed(student.shape))
        fitted, judged = split_within(self.batches, tokens)
        expected = self.outputs.of(runner(self.teacher.model))
        teacher_targets = TeacherTargets(self.teacher, fitted)

        def judge(plan: Plan) -> float:
            model = copy.deepcopy(student.model).eval()
            apply_(model, plan)
            if self.spec.repair:
                repair_(
                    bind(model),
                    self.teacher,
                    so_far.then(plan),
                    fitted,
                    damping=self.spec.damping,
                    teacher_targets=teacher_targets,
                )
            return self.outputs.divergence(runner(model), expected, judged)

        return judge

    def drop_loss_increases(self, student: Layout) -> dict[int, float]:
        """Loss increase of dropping each layer whole, in the unit of the other options'.

        Empty where layers may not be dropped. The layer whose loss increase is largest is left out,
        and every layer that cannot be skipped.
        """
        shape = student.shape
        if "layers" not in self.spec.removable or shape.groups or shape.n_layers == 1:
            return {}
        batches, run = first_within(self.batches, self.spec.judged), runner(student.model)
        own = self.outputs.of(runner(copy.deepcopy(student.model)))
        increases = leave_one_out(
            student, lambda: self.outputs.loss_increase(run, own, batches), self.progress
        )
        allowed = np.argsort(increases)[:-1]
        return {int(i): float(increases[i]) for i in allowed if np.isfinite(increases[i])}
