"""Where a measurement was made: machine, cores, threads, devices, versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.gpu import describe_gpu
from compress.files.folder import versions
from export.graph.session import usable_cores

__all__ = ["environment", "identity_of", "machine"]


def machine() -> dict[str, Any]:
    """What makes two latency measurements comparable: processor, cores, GPU."""
    facts = environment()
    found = {name: facts[name] for name in ("system", "cpu", "cpu_features", "cores", "gpu")}
    return found | {"gpu": identity_of(found["gpu"])}


def identity_of(gpu: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What does not change by itself: clocks and temperatures do."""
    return (
        None if gpu is None else {name: gpu.get(name) for name in ("name", "memory_mib", "driver")}
    )


def environment() -> dict[str, Any]:
    """The machine as the report writes it; `gpu` is `None` where no CUDA device answers."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cpu_features": _cpu_features(),
        "cores": usable_cores(),
        "threads": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": [round(x, 2) for x in psutil.getloadavg()],
        "gpu": _gpu(),
        "python": platform.python_version(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": versions(),
    }


def _commit() -> str:
    """Of the repository that is measured, as CI services tell it; empty elsewhere."""
    names = ("GITHUB_SHA", "CI_COMMIT_SHA", "BUILDKITE_COMMIT", "GIT_COMMIT")
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _cpu_lines(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(key))
    return next(found, "")


def _cpu() -> str:
    return _cpu_lines("model name") or platform.processor() or "unknown"


def _cpu_features() -> list[str]:
    """The vector extensions that decide int8 and bf16 speed."""
    telling = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16"}
    return sorted(telling & set(_cpu_lines("flags").split()))


def _gpu() -> dict[str, Any] | None:
    found = describe_gpu()
    if found is None:
        return None
    import torch

    return found | {"torch_cuda": torch.version.cuda, "torch_cudnn": torch.backends.cudnn.version()}
