"""Processes that work for another: one that is killed costs what it was at, and nothing else."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from compress_export.workers import Workers


def prepare(slot: int | None) -> None:
    os.environ["SLOT"] = str(slot)


def at(value: int) -> tuple[int, int, str]:
    if value < 0:
        raise ValueError(f"{value} is below 0")
    return value, os.getpid(), os.environ["SLOT"]


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def hold(folder: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder):
        time.sleep(60)


def unsendable() -> object:
    return lambda: None


def test_answers_errors_and_slots() -> None:
    workers = Workers(prepare=prepare)
    try:
        workers.submit("a", at, 3, slot=1)
        (first,) = workers.wait()
        assert (first.ticket, first.value[0], first.value[2]) == ("a", 3, "1")
        workers.submit("b", at, -1, slot=1)
        (second,) = workers.wait()
        assert str(second.error) == "-1 is below 0"
        assert "Traceback" in second.error.__notes__[0]
        workers.submit("c", at, 4, slot=1)
        workers.submit("d", at, 5, slot=0)
        answers = {a.ticket: a.value for a in (*workers.wait(most=1), *workers.wait(most=1))}
        assert answers["c"][1] == first.value[1], "an idle process is used again"
        assert answers["d"][2] == "0"
        workers.submit("e", unsendable)
        (third,) = workers.wait()
        assert isinstance(third.error, TypeError)
    finally:
        workers.close()


def test_a_killed_worker_is_told_and_replaced() -> None:
    workers = Workers(prepare=prepare)
    try:
        workers.submit("slow", sleep, 60)
        workers.submit("quick", at, 1)
        answers = workers.wait()
        assert [a.ticket for a in answers] == ["quick"]
        assert workers.wait(0.1) == []
        (slow,) = workers.processes
        os.kill(slow, signal.SIGKILL)
        (lost,) = workers.wait()
        assert (lost.ticket, lost.lost) == ("slow", True)
        workers.submit("again", at, 2)
        (found,) = workers.wait()
        assert found.value[0] == 2
    finally:
        workers.close()


def test_what_is_ended_tidies_up(tmp_path: Path) -> None:
    workers = Workers(prepare=prepare)
    workers.submit("holds", hold, str(tmp_path))
    while not list(tmp_path.iterdir()):
        assert workers.wait(0.1) == []
    workers.close()
    assert not list(tmp_path.iterdir())
