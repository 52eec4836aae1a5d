"""Which cores a measurement may use."""

from __future__ import annotations

import os

import torch

from compress.errors import RecipeError
from export.graph.session import usable_cores

__all__ = ["pin"]


def pin(threads: int | None) -> None:
    """Bind this process, and all that it starts, to so many cores; every runtime takes as many.

    Args:
        threads: At least 1; left out, nothing is bound.

    Raises:
        RecipeError: There are not so many, or this system cannot bind a process.
    """
    if threads is None:
        return
    if not 1 <= threads <= usable_cores():
        raise RecipeError(
            f"--threads must be between 1 and the {usable_cores()} cores of this process, found "
            f"{threads}; choose fewer"
        )
    if not hasattr(os, "sched_setaffinity"):
        raise RecipeError("--threads needs a system that can bind a process to cores; leave it out")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)
