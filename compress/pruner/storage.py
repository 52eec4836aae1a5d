"""Where a student's weights are while it is pruned: what the pruner asks of it, and in memory."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from transformers import PreTrainedModel

from compress.model.batches import Batches, Loss, Progress, silent
from compress.model.binding import bind
from compress.model.layout import Layout
from compress.model.surgery import apply_
from compress.plan.plan import Plan
from compress.repair.least_squares import repair_
from compress.repair.targets import TeacherTargets
from compress.saliency.pruning_order import PruningOrder, obs_order

__all__ = ["InMemory", "Storage"]


class Storage(Protocol):
    """A teacher and the student that is made of it.

    Attributes:
        teacher: The unpruned model.
        student: The student as it is now; at first a copy of the teacher.
        in_memory: Whether students can be copied and tried.
    """

    teacher: Layout
    student: Layout
    in_memory: bool

    def begin(self, fitted: Batches, damping: float | None, progress: Progress) -> None:
        """Get ready for cuts.

        Args:
            fitted: Batches that repairs look at, all or the first of them.
            damping: Relative damping of the repair; `None` for no repair.
            progress: Called after every layer.
        """

    def reading(self) -> AbstractContextManager[None]:
        """A block in which both models may run, forward and backward."""

    def obs_order(
        self, batches: Batches, loss: Loss, damping: float, progress: Progress
    ) -> PruningOrder:
        """The student's pruning order by structured OBS, see `compress.saliency.pruning_order`."""

    def cut(self, step: Plan, plan: Plan, batches: Batches, *, final: bool) -> None:
        """Remove units from the student and repair it.

        Args:
            step: The plan for the student as it is now.
            plan: The plan for the teacher that gives the same.
            batches: Calibration data of the repair.
            final: Whether this is the last cut.
        """

    def finish(self, plan: Plan, batches: Batches) -> None:
        """Finish a student that needs no cut.

        Args:
            plan: The plan for the teacher that gives the same.
            batches: Calibration data.
        """

    def snapshot(self) -> PreTrainedModel:
        """The student as it is now, in evaluation mode; later cuts do not change it."""


class InMemory:
    """Both models in memory.

    Args:
        model: The unpruned model, which is left as it is.
    """

    in_memory = True

    def __init__(self, model: PreTrainedModel) -> None:
        self.teacher = bind(model)
        self.student = bind(copy.deepcopy(model))
        self._targets: TeacherTargets | None = None
        self._damping: float | None = None
        self._progress: Progress = silent

    def begin(self, fitted: Batches, damping: float | None, progress: Progress) -> None:
        """See `Storage`."""
        self._damping, self._progress = damping, progress
        self._targets = None if damping is None else TeacherTargets(self.teacher, fitted)

    def reading(self) -> AbstractContextManager[None]:
        """See `Storage`."""
        return nullcontext()

    def obs_order(
        self, batches: Batches, loss: Loss, damping: float, progress: Progress
    ) -> PruningOrder:
        """See `Storage`."""
        return obs_order(self.student, batches, loss, damping, progress)

    def cut(self, step: Plan, plan: Plan, batches: Batches, *, final: bool) -> None:
        """See `Storage`."""
        apply_(self.student.model, step)
        self.student = bind(self.student.model)
        if self._damping is not None:
            repair_(
                self.student,
                self.teacher,
                plan,
                batches,
                damping=self._damping,
                progress=self._progress,
                teacher_targets=self._targets,
            )

    def finish(self, plan: Plan, batches: Batches) -> None:
        """See `Storage`."""

    def snapshot(self) -> PreTrainedModel:
        """See `Storage`."""
        whole: PreTrainedModel = copy.deepcopy(self.student.model).eval()
        return whole

    def replace(self, model: PreTrainedModel) -> None:
        """Go on from a copy of `model`, which has the student's sizes: a trained student."""
        self.student = bind(copy.deepcopy(model))
