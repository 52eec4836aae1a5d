"""The processes that work on one thing together, as `accelerate` or `torchrun` started them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import torch
from accelerate import PartialState

__all__ = ["Worker", "is_main", "this_worker", "wait_for_all"]


_PATIENCE = timedelta(hours=12)
"""For the process that writes, while others wait for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """One process of several.

    Attributes:
        rank: Its number, from 0.
        count: Number of processes.
        device: Device of this process.
    """

    rank: int
    count: int
    device: torch.device


def this_worker() -> Worker:
    """This process; one of one where nothing started several."""
    state = _state()
    return Worker(rank=state.process_index, count=state.num_processes, device=state.device)


def is_main() -> bool:
    """Whether this process is the one that writes."""
    return bool(_state().is_main_process)


def wait_for_all() -> None:
    """Wait until every process is here."""
    _state().wait_for_everyone()


def _state() -> PartialState:
    """On the CPU where there is no GPU, as `Trainer` will."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
