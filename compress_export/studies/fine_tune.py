"""What several studies begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compress_export.studies.grid import Cell, Row
from compress_export.studies.question import Question
from compress_export.studies.schools import Lessons, TaskData

__all__ = ["FineTune", "fine_tunings"]


@dataclass(frozen=True, kw_only=True)
class FineTune(Cell):
    """A model fine-tuned on a task.

    Attributes:
        source: Checkpoint.
        lessons: The task.
        seed: Of the training.
        out: Folder of the checkpoint.
    """

    source: str
    lessons: Lessons
    seed: int
    out: str

    @property
    def name(self) -> str:
        """Of the cell."""
        return f"fine-tune-{self.lessons.task}-{self.seed}"

    def reads(self) -> tuple[str, ...]:
        """The checkpoint, and the data."""
        return (self.source, *self.lessons.files())

    def writes(self) -> tuple[str, ...]:
        """What was trained."""
        return (f"{self.out}/config.json",)

    def work(self) -> list[Row]:
        """One row."""
        data = TaskData(self.lessons)
        value = data.fine_tuned(self.source, self.seed, Path(self.out))
        return [{"task": self.lessons.task, "seed": self.seed, "metric": value}]


def fine_tunings(
    question: Question, lessons: Mapping[str, Lessons], out: Mapping[str, str]
) -> list[FineTune]:
    """Of the tasks whose teacher was not given, of the first seed.

    Args:
        question: What was asked.
        lessons: By task.
        out: Where each task's teacher is, or comes to be.
    """
    return [
        FineTune(
            source=question.model, lessons=lessons[task], seed=question.seeds[0], out=out[task]
        )
        for task in question.tasks
        if task not in question.teachers
    ]
