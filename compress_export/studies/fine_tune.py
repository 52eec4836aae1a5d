"""A cell that several studies begin with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compress_export.studies.grid import Cell, Row
from compress_export.studies.schools import Lessons, TaskData

__all__ = ["FineTune"]


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
