"""What NVIDIA's own tool says of the first device. Nothing, where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

__all__ = ["describe_gpu", "process_bytes"]

_FIELDS = {
    "name": "name",
    "memory_mib": "memory.total",
    "driver": "driver_version",
    "sm_clock_mhz": "clocks.sm",
    "sm_clock_max_mhz": "clocks.max.sm",
    "memory_clock_mhz": "clocks.mem",
    "power_limit_w": "power.limit",
    "temperature_c": "temperature.gpu",
    "persistence": "persistence_mode",
    "mig": "mig.mode.current",
}


def describe_gpu() -> dict[str, Any] | None:
    """Name, memory, driver and clocks of the first device."""
    rows = _ask("--query-gpu=" + ",".join(_FIELDS.values()))
    if not rows:
        return None
    return dict(zip(_FIELDS, rows[0], strict=True))


def process_bytes(pid: int | None = None) -> int | None:
    """Device memory that a process holds; unknown where the tool does not tell.

    Args:
        pid: This one by default.
    """
    for process, mib in _ask("--query-compute-apps=pid,used_memory"):
        if process == str(pid or os.getpid()) and mib.isdigit():
            return int(mib) * 2**20
    return None


def _ask(query: str) -> list[list[str]]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, query, "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return []
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line]
