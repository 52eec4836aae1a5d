"""Which of a training's checkpoints are whole: a kill may leave the last one torn."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from compress.errors import TrainingError

__all__ = ["Marked", "newest_whole"]

_MARK = "whole"
_HOME = ".compress-export-training"
"""A file that says that a folder's checkpoints are of our trainings."""


class Marked(TrainerCallback):
    """Marks a checkpoint once all of it is written; the last of the callbacks."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint of this step."""
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _MARK).touch()


def newest_whole(home: Path) -> Path | None:
    """The newest marked checkpoint, if there is one; those that are torn are dropped.

    Raises:
        TrainingError: The folder holds checkpoints of another training program.
    """
    found = [path for path in home.glob("checkpoint-*") if path.name[11:].isdigit()]
    found.sort(key=lambda path: int(path.name[11:]))
    marker = home / _HOME
    foreign = [path for path in found if not (path / _MARK).is_file()]
    if foreign and not marker.is_file():
        raise TrainingError(
            f"{foreign[0]} was written by another training; move it away, or name another folder"
        )
    home.mkdir(parents=True, exist_ok=True)
    marker.touch()
    for path in found:
        if not (path / _MARK).is_file():
            shutil.rmtree(path, ignore_errors=True)
    whole = [path for path in found if path.is_dir()]
    return whole[-1] if whole else None
