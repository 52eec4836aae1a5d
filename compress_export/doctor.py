"""Look at the machine: what would make a run slow, wrong or impossible. Changes nothing."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import psutil
import torch

from benchmarks.environment import environment
from benchmarks.runtimes.onnxruntime import CUDA, cuda_available
from compress_export.cuda_libraries import missing_libraries, remedy

__all__ = ["Finding", "examine"]

_EXTRAS = (
    ("openvino", "openvino", "OpenVINO contenders of `bench`"),
    ("mlperf_loadgen", "loadgen", "`load`"),
)
TESTED = {"torch": "2.13", "transformers": "5.23"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing looked at: its state, and what to do if something is wrong (else empty)."""

    subject: str
    state: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain text fields."""
        return asdict(self)


def examine() -> tuple[Finding, ...]:
    """Everything worth knowing before a run."""
    facts = environment()
    return (
        *_libraries(facts["versions"]),
        Finding(subject="cpu", state=f"{facts['cpu']}, {facts['cores']} cores"),
        Finding(
            subject="vector extensions", state=", ".join(facts["cpu_features"]) or "none known"
        ),
        _load(facts["cores"]),
        Finding(subject="memory", state=f"{facts['memory_bytes'] / 2**30:.1f} GiB"),
        _disk(),
        *_cuda(),
        *_extras(),
    )


def _libraries(versions: dict[str, str]) -> list[Finding]:
    findings = []
    for name, version in versions.items():
        tested = TESTED.get(name)
        remedy = ""
        if tested and not version.startswith(tested):
            remedy = f"tested with {tested}; run the test suite if exports look odd"
        findings.append(Finding(subject=name, state=version, remedy=remedy))
    return findings


def _load(cores: int) -> Finding:
    load = psutil.getloadavg()[0]
    busy = load > 0.5 * cores
    remedy = "wait until the machine is idle before measuring latency" if busy else ""
    return Finding(subject="load", state=f"{load:.1f} of {cores} cores", remedy=remedy)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    remedy = "free some space: a run writes several copies of the model" if free < 2 else ""
    return Finding(subject="disk", state=f"{free:.1f} GiB free here", remedy=remedy)


def _cuda() -> list[Finding]:
    """Provider and device, and what the provider would look for in vain."""
    if CUDA not in onnxruntime.get_available_providers():
        return [_cuda_device()]
    missing = missing_libraries(CUDA)
    if missing is None:
        return [_cuda_device(), Finding(subject="cuda libraries", state="all found")]
    state = f"{missing} is not found, so that ONNX Runtime would run on the CPU"
    fix = f"for CUDA: {remedy(missing)}"
    return [_cuda_device(), Finding(subject="cuda libraries", state=state, remedy=fix)]


def _extras() -> list[Finding]:
    """Runtimes and tools that some contenders and commands need."""
    found = []
    for module, extra, use in _EXTRAS:
        there = importlib.util.find_spec(module) is not None
        fix = "" if there else f"pip install 'compress-export[{extra}]', for {use}"
        found.append(
            Finding(subject=extra, state="installed" if there else "not installed", remedy=fix)
        )
    return found


def _cuda_device() -> Finding:
    listed = CUDA in onnxruntime.get_available_providers()
    if cuda_available():
        return Finding(subject="cuda", state="a device answers, and the provider is installed")
    if torch.cuda.is_available():
        remedy = "pip install onnxruntime-gpu, and remove onnxruntime beside it"
        return Finding(subject="cuda", state="a device, but no provider", remedy=remedy)
    if listed:
        state = "the provider is installed, but no device answers"
        remedy = "use target.device: cpu; on a GPU machine, check driver and torch's CUDA build"
        return Finding(subject="cuda", state=state, remedy=remedy)
    return Finding(subject="cuda", state="none", remedy="use target.device: cpu")
