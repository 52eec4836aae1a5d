"""Who is told of a training, and where TensorBoard's events go."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from transformers.integrations.integration_utils import is_tensorboard_available

__all__ = ["tensorboard_beside", "trackers"]

_EVENTS = "TENSORBOARD_LOGGING_DIR"


def trackers(given: Sequence[str] | None) -> list[str]:
    """The trackers asked for; TensorBoard, where it is installed, by default."""
    if given is not None:
        return list(given)
    return ["tensorboard"] if is_tensorboard_available() else []


@contextmanager
def tensorboard_beside(folder: Path | None) -> Iterator[None]:
    """TensorBoard's events go to `<name>.tensorboard` beside `folder`, unless it is told where."""
    if folder is None or _EVENTS in os.environ:
        yield
        return
    name = folder.name.removesuffix(".training")
    os.environ[_EVENTS] = str(folder.with_name(f"{name}.tensorboard"))
    try:
        yield
    finally:
        del os.environ[_EVENTS]
