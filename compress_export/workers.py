"""Processes that work for this one: each does one thing at a time, and is replaced when it ends.

Unlike a pool of the standard library, one that is killed costs what it was at, and nothing else.
Knows calls; must not know what they do.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, cast

from compress_export.console import hush

__all__ = ["Answer", "Workers", "calm"]

_ENDING = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What became of a call.

    Attributes:
        ticket: The caller's name for it.
        value: What it returned.
        error: What it raised.
        lost: Whether its process ended before it answered.
    """

    ticket: Hashable
    value: Any = None
    error: Exception | None = None
    lost: bool = False


@dataclass(kw_only=True, slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    slot: int | None
    ticket: Hashable | None = None


@dataclass(kw_only=True, slots=True)
class Workers:
    """As many processes as there are calls under way.

    Attributes:
        prepare: Called once in each new process, with its slot.
    """

    prepare: Callable[[int | None], None]
    _all: list[_Worker] = field(default_factory=list)

    def submit(
        self, ticket: Hashable, call: Callable[..., Any], *arguments: Any, slot: int | None = None
    ) -> None:
        """Have a call made by an idle process of that slot, or by a new one.

        Args:
            ticket: To know its answer by.
            call: A function of a module.
            arguments: That can be pickled.
            slot: What the process was prepared for, such as a GPU.
        """
        idle = [w for w in self._all if w.ticket is None and w.slot == slot]
        worker = next((w for w in idle if w.process.is_alive()), None) or self._start(slot)
        worker.ticket = ticket
        with suppress(OSError):  # it has just ended: `wait` will tell
            worker.pipe.send((call, arguments))

    def wait(self, seconds: float | None = None, most: int | None = None) -> list[Answer]:
        """Answers that have come; at least one unless the time runs out or nothing is under way.

        Args:
            seconds: To wait, at most.
            most: Answers to give; others come with the next call.
        """
        busy = {w.pipe: w for w in self._all if w.ticket is not None}
        ready = wait(list(busy), seconds)[:most]
        return [self._answer(busy[cast("Connection", pipe)]) for pipe in ready]

    def close(self) -> None:
        """End all processes, whatever they are at."""
        for worker in self._all:
            worker.pipe.close()  # an idle one ends by itself
            if worker.ticket is not None:
                worker.process.terminate()
        end = time.monotonic() + _ENDING
        for worker in self._all:
            worker.process.join(max(0.0, end - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
        self._all.clear()

    @property
    def processes(self) -> list[int]:
        """Numbers of the processes that are at something."""
        return [w.process.pid or 0 for w in self._all if w.ticket is not None]

    def _start(self, slot: int | None) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.prepare, slot))
        with _uninterrupted():  # it inherits that: Ctrl-C is for this process to answer
            process.start()
        theirs.close()
        worker = _Worker(process=process, pipe=ours, slot=slot)
        self._all.append(worker)
        return worker

    def _answer(self, worker: _Worker) -> Answer:
        assert worker.ticket is not None  # only busy ones are waited for
        ticket, worker.ticket = worker.ticket, None
        try:
            value, error = worker.pipe.recv()
        except (EOFError, OSError):
            self._all.remove(worker)
            worker.pipe.close()
            worker.process.join(_ENDING)
            return Answer(ticket=ticket, lost=True)
        except Exception as broken:  # what was sent cannot be made again here
            return Answer(ticket=ticket, error=TypeError(f"an answer cannot be read: {broken}"))
        return Answer(ticket=ticket, value=value, error=error)


def calm() -> None:
    """Say nothing: this process works for another, which tells."""
    os.environ["TQDM_DISABLE"] = "1"
    import transformers

    hush()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def _serve(pipe: Connection, prepare: Callable[[int | None], None], slot: int | None) -> None:
    """What a worker does until its parent ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, _end)
    prepare(slot)
    while True:
        try:
            call, arguments = pipe.recv()
        except EOFError:
            return
        answer: tuple[Any, Exception | None]
        try:
            answer = (call(*arguments), None)
        except Exception as error:  # it is the caller's, who is in another process
            error.add_note(traceback.format_exc())
            answer = (None, error)
        try:
            pipe.send(answer)
        except Exception as error:  # what cannot be pickled; nothing has been sent of it
            pipe.send((None, TypeError(f"{call} gave what cannot be sent back: {error}")))


def _end(*_: object) -> None:
    """End as one does that is done: its temporary folders and semaphores go with it."""
    raise SystemExit(1)


def _end_with_parent() -> None:
    """End when the process that this one works for has: its results are for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Within the block, and in processes that start in it, Ctrl-C does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
