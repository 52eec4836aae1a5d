"""Tokens of this machine's devices: many work at one, a measurement has it alone.

Locks of files that the system drops when their holder ends, so that they hold between processes
and sweeps of one user, whatever started them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

from filelock import FileLock, ReadWriteLock

__all__ = ["CPU", "Use", "Uses", "by_identity", "gpu", "holding", "user_name", "uses_of"]

CPU = "cpu"
Use: TypeAlias = Literal["alone", "shared"]
Uses: TypeAlias = dict[str, Use]


def gpu(index: int) -> str:
    """The name of a GPU of this machine."""
    return f"gpu-{index}"


def uses_of(*, measures: bool, device: str, gpu_index: int | None) -> Uses:
    """Which devices a stage uses, and how.

    A measurement on a GPU shares the CPU, which feeds it; one on the CPU shares nothing, since
    whatever works on a GPU is fed by the CPU too.

    Args:
        measures: Whether it times something.
        device: What it times: `cpu` or `cuda`.
        gpu_index: The GPU that it was given, if any.

    Example:
        >>> uses_of(measures=True, device="cuda", gpu_index=0)
        {'cpu': 'shared', 'gpu-0': 'alone'}
    """
    if measures and device == CPU:
        return {CPU: "alone"}
    uses: Uses = {CPU: "shared"}
    if gpu_index is not None:
        uses[gpu(gpu_index)] = "alone" if measures else "shared"
    return uses


def by_identity(uses: Uses, identity: str | None) -> Uses:
    """The same uses, the GPU under a name that all processes of the machine know it by.

    Args:
        uses: With the GPU's place among those that a sweep sees.
        identity: Of the one GPU that this process sees; none where it sees none.

    Example:
        >>> by_identity({"cpu": "shared", "gpu-0": "alone"}, "GPU-1b2c")
        {'cpu': 'shared', 'GPU-1b2c': 'alone'}
    """
    if identity is None:
        return uses
    return {device if device == CPU else identity: use for device, use in uses.items()}


def user_name() -> str:
    """Of the user, for names of folders that all users of a machine share."""
    return str(os.getuid()) if hasattr(os, "getuid") else "all"


@contextmanager
def holding(uses: Mapping[str, Use], folder: Path | None = None) -> Iterator[None]:
    """Hold the tokens of devices for the length of the block, waiting for them first.

    Who wants a device alone goes before those who come after: they wait at the turnstile.

    Args:
        uses: Of each device.
        folder: Where the locks lie; by default one of this machine's.
    """
    place = folder or Path(tempfile.gettempdir()) / f"compress-export-devices-{user_name()}"
    place.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        for device in sorted(uses):  # one order for all, so that no two wait for each other
            lock = ReadWriteLock(place / f"{device}.db", is_singleton=False)
            with FileLock(place / f"{device}.turn"):
                alone = uses[device] == "alone"
                held.enter_context(lock.write_lock() if alone else lock.read_lock())
        yield
