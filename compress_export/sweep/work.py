"""One step of one run, done in whatever process it was sent to; the answer is plain data.

Everything heavy is loaded inside, so that the sender needs no torch.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from compress_export.stages import STEPS, Step
from compress_export.sweep.devices import Uses, by_identity, holding, user_name
from compress_export.sweep.store import Store, TornError, names_in

__all__ = [
    "MARK",
    "Fault",
    "Outcome",
    "Probe",
    "Task",
    "kind_of_device",
    "probe",
    "unfinished",
    "work",
]

MARK = "sweep.json"

Fault = Literal["input", "promise", "node", "bug"]
"""Whose a failure is: the recipe's, the student's, the node's, or ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A step to do.

    Attributes:
        run: Name of the run.
        key: Of the run.
        step: To do.
        recipe: As plain data.
        base: The folder that its paths are taken from.
        folder: Where runs are written, as the sender sees it.
        mark: What `folder`'s sweep calls itself, to know whether this machine sees the same folder.
        store: URL of the shared store, if there is one.
        cpus: Cores to use.
        uses: Devices, and how.
    """

    run: str
    key: str
    step: Step
    recipe: dict[str, Any]
    base: str
    folder: str
    mark: str
    store: str | None = None
    cpus: float = 1
    uses: Uses = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a step.

    Attributes:
        seconds: Of the work, waiting for a device left out.
        waited: Seconds for the device.
        accuracy: Of the variant that gates look at, once it has been measured.
        error: One line, if it failed.
        fault: Whose, if it failed.
        details: The traceback, where the fault is ours.
    """

    seconds: float = 0
    waited: float = 0
    accuracy: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    fault: Fault | None = None
    details: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What a node says of itself.

    Attributes:
        kind: Its hardware in words.
        n_gpus: That it can use.
        versions: Of what decides results.
        sees: Whether it sees the sweep's folder.
    """

    kind: str
    n_gpus: int
    versions: Mapping[str, str]
    sees: bool


def probe(folder: str, mark: str) -> Probe:
    """Look at this machine."""
    import torch

    from benchmarks.environment import machine
    from compress.files.folder import versions

    kind = kind_of_device(machine())
    n_gpus = torch.cuda.device_count()
    return Probe(kind=kind, n_gpus=n_gpus, versions=versions(), sees=_sees(folder, mark))


def kind_of_device(facts: Mapping[str, Any]) -> str:
    """A machine's hardware in words, the same for those whose latencies can be compared."""
    gpu = facts["gpu"]
    return f"{facts['cpu']}, {facts['cores']} cores" + (f", {gpu['name']}" if gpu else "")


def work(task: Task) -> Outcome:
    """Do a step in this process; whatever goes wrong is told, not raised."""
    try:
        uses = by_identity(task.uses, _gpu())
        start = time.perf_counter()
        with holding(uses):
            began = time.perf_counter()
            accuracy = _do(task)
        ended = time.perf_counter()
        return Outcome(seconds=ended - began, waited=began - start, accuracy=accuracy)
    except Exception as error:  # the outermost edge of a worker
        return _failed(error)


def _do(task: Task) -> list[dict[str, Any]]:
    """Do it; the accuracy that it found, if it is the step that does."""
    from compress.model.batches import silent
    from compress_export.pipeline import Run
    from compress_export.recipe import make_recipe

    out = _folder(task) / task.run
    store = None if task.store is None else Store(task.store)
    partial = out.with_name(f"{out.name}.partial")
    so_far = unfinished(task.key, task.mark)
    if store is not None and task.step == STEPS[-1] and _is_there(store, task.key, out):
        return []  # done by a process that was lost before it could say so
    if store is not None and not _stages(store.names(so_far)) <= _stages(names_in(partial)):
        store.pull(so_far, partial)
    _take(task.cpus)
    text = yaml.safe_dump(task.recipe, sort_keys=False, allow_unicode=True)
    run = Run(make_recipe(task.recipe), text, Path(task.base), out, silent)
    if task.step == STEPS[0]:
        run.check()
    run.do(task.step)
    if store is not None:
        if task.step == STEPS[-1]:
            store.push(out, task.key, whole=True)
            store.drop(so_far)
        else:
            store.push(partial, so_far, whole=False)
    found = run.accuracy() if task.step == "evaluate" else []
    if store is not None and not _sees(task.folder, task.mark):  # the store has it all
        for folder in (out, partial):
            shutil.rmtree(folder, ignore_errors=True)
    return found


def _stages(files: Iterable[str]) -> set[str]:
    """The records of whole stages among a run's files."""
    return {name for name in files if name.startswith("stages/")}


def _is_there(store: Store, key: str, out: Path) -> bool:
    """Whether the store has the finished run; one that is torn there is removed."""
    try:
        return store.has(key) and store.pull(key, out)
    except TornError:
        store.drop(key)
        return False


def unfinished(key: str, mark: str) -> str:
    """The name in the store of what is half done of a run of a sweep."""
    return f"{key}-{mark[:12]}"


def _folder(task: Task) -> Path:
    """Where runs are written here: the sweep's folder, or scratch beside a store."""
    if _sees(task.folder, task.mark):
        return Path(task.folder) / "runs"
    if task.store is None:
        raise FileNotFoundError(
            errno.ENOENT, "the sweep's folder cannot be seen from here; name a --store", task.folder
        )
    scratch = Path(tempfile.gettempdir()) / f"compress-export-sweeps-{user_name()}" / task.mark
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch


def _sees(folder: str, mark: str) -> bool:
    try:
        return mark in (Path(folder) / MARK).read_text(encoding="utf-8")
    except OSError:
        return False


def _gpu() -> str | None:
    """The identity of the GPU that this process sees, if it sees one."""
    import torch

    if not torch.cuda.is_available():
        return None
    return f"gpu-{torch.cuda.get_device_properties(0).uuid}"


def _take(cpus: float) -> None:
    import torch

    torch.set_num_threads(max(1, int(cpus)))


def _failed(error: Exception) -> Outcome:
    """What an error means to a sweep: retried elsewhere, or told."""
    from compress.errors import (
        CheckpointError,
        DataError,
        ProviderError,
        ToolchainError,
        VerificationError,
    )
    from compress_export.remote import StoreError

    line = " ".join(str(error).split())
    if isinstance(error, VerificationError):
        return Outcome(error=line, fault="promise")
    if isinstance(error, CheckpointError | DataError | ProviderError | StoreError):
        return Outcome(error=line, fault="node")  # another may have model, data, device or network
    if isinstance(error, ToolchainError):
        return Outcome(error=line, fault="input")
    if isinstance(error, ImportError):
        return Outcome(error=f"{line}; install it there", fault="node")
    if isinstance(error, OSError) or "os error 28" in line:
        full = getattr(error, "errno", None) == errno.ENOSPC or "os error 28" in line
        what = "the disk is full" if full else "a file could not be read or written"
        return Outcome(error=f"{what}: {line}", fault="node")
    if isinstance(error, MemoryError) or "out of memory" in line or "not enough memory" in line:
        return Outcome(error="memory ran out; give the step more memory_gb", fault="node")
    told = f"this is a bug of compress-export: {type(error).__name__}: {line}"
    return Outcome(error=told, fault="bug", details=traceback.format_exc())
