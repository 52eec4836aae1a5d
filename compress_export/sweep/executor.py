"""What a sweep asks of whatever does its work, and the local answer: processes of this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil

from compress_export.sweep.schedule import Node, Place
from compress_export.sweep.work import Outcome, Probe, Task, probe, work
from compress_export.workers import Answer, Workers, calm
from export.graph.session import usable_cores

__all__ = ["Done", "Executor", "LocalExecutor"]

HERE = "this machine"
_GB = 1e9
_ALL = -1  # the slot of a process that sees every GPU


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """A task that has ended.

    Attributes:
        run: Of the task.
        outcome: What became of it; none where its worker or node was lost.
    """

    run: str
    outcome: Outcome | None


class Executor(Protocol):
    """Does tasks somewhere. Schedules nothing: it is told where each goes."""

    def nodes(self, folder: str, mark: str) -> tuple[list[Node], list[str]]:
        """Nodes that can work now, and a line for each that cannot.

        Args:
            folder: Of the sweep.
            mark: Its name for itself, by which a node knows the folder.
        """
        ...

    def submit(self, task: Task, place: Place) -> None:
        """Begin a task."""
        ...

    def wait(self, seconds: float) -> Sequence[Done]:
        """Tasks that have ended, once some have or the time is up."""
        ...

    def close(self) -> None:
        """End whatever is under way."""
        ...


class LocalExecutor:
    """Processes of this machine, each kept for the next task of its device."""

    def __init__(self) -> None:
        self._workers = Workers(prepare=_settle)
        self._node: Node | None = None

    def nodes(self, folder: str, mark: str) -> tuple[list[Node], list[str]]:
        """This machine."""
        if self._node is None:
            self._workers.submit("probe", probe, folder, mark, slot=_ALL)
            (answer,) = self._workers.wait()
            found = _probe_of(answer)
            self._node = Node(
                name=HERE,
                kind=found.kind,
                cpus=usable_cores(),
                gpus=found.n_gpus,
                memory_gb=psutil.virtual_memory().total / _GB,
            )
        return [self._node], []

    def submit(self, task: Task, place: Place) -> None:
        """Hand a task to an idle process, or to a new one."""
        self._workers.submit(task.run, work, task, slot=place.gpu)

    def wait(self, seconds: float) -> list[Done]:
        """See `Executor.wait`."""
        answers = self._workers.wait(seconds)
        return [Done(run=str(a.ticket), outcome=_outcome_of(a)) for a in answers]

    def close(self) -> None:
        """End all processes."""
        self._workers.close()


def _settle(gpu: int | None) -> None:
    """Prepare a process: of the GPUs that the user lets us see, it sees its own alone, or none."""
    if gpu is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif gpu != _ALL:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        names = [name for name in seen.split(",") if name]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[gpu] if names else str(gpu)
    calm()


def _probe_of(answer: Answer) -> Probe:
    if answer.error is not None:
        raise answer.error
    assert isinstance(answer.value, Probe)  # what `probe` gives
    return answer.value


def _outcome_of(answer: Answer) -> Outcome | None:
    if answer.lost:
        return None
    assert isinstance(answer.value, Outcome)  # `work` raises nothing
    return answer.value
