"""Where an output folder is prepared, and by whom: mount points, and one writer at a time."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from compress.errors import BundleError

__all__ = ["TOOL", "WORK", "fill", "finish_filling", "is_mount", "locked", "work_folder"]

TOOL = "compress-export"
WORK = f".{TOOL}.partial"
"""Where a mount point's next content is written, within it."""
_FILLING, _EMPTYING, _MOVING = "filling", "emptying", "moving"
"""In a mount point's working folder, the file that says how far its content has been replaced."""
_held: set[Path] = set()
"""Folders that this process has locked."""


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Within the block, no other process of this user on this machine writes `target`.

    A process that holds the lock may take it again. The lock file lies in the user's cache, so
    that nothing is left beside the output.

    Raises:
        BundleError: Another process holds it.
    """
    place = target.resolve()
    if place in _held:
        yield
        return
    base = _lock_folder()
    lock = FileLock(base / f"{hashlib.sha256(str(place).encode()).hexdigest()[:32]}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BundleError(
            f"{target} is being written by another process; wait until it ends, or name another "
            "folder"
        ) from None
    _held.add(place)
    try:
        yield
    finally:
        _held.discard(place)
        lock.release()


def _lock_folder() -> Path:
    """In the user's cache; where there is no writable home, in the system's temporary folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    user = str(os.getuid()) if hasattr(os, "getuid") else "all"
    for place in (cache / TOOL / "locks", Path(tempfile.gettempdir()) / f"{TOOL}-locks-{user}"):
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(place, os.W_OK):
            return place
    raise BundleError("no folder for lock files can be written; set XDG_CACHE_HOME to one")


def work_folder(target: Path, name: str = "partial") -> Path:
    """Where a long job prepares `target`: beside it, or within it where it is a mount point.

    Args:
        target: The output.
        name: What it is for, where a job needs several.
    """
    if not is_mount(target):
        return target.with_name(f"{target.name}.{name}")
    return target / WORK / name


def is_mount(target: Path) -> bool:
    """Whether something is mounted at a folder, another folder of the same disk included."""
    if not target.is_dir():
        return False
    if target.is_mount():
        return True
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    escaped = re.compile(r"\\([0-7]{3})")
    places = (escaped.sub(lambda m: chr(int(m[1], 8)), line.split()[4]) for line in lines)
    return str(target.resolve()) in places


def fill(new: Path, target: Path, last: str) -> None:
    """Replace what a mount point holds by what `new` holds, file by file.

    Args:
        new: A folder within the mount point's working folder.
        target: The mount point; all in it is replaced.
        last: File without which the content is not whole; it goes first and comes last.
    """
    marker = target / WORK / _FILLING
    marker.write_text(f"{_EMPTYING} {new.name}", encoding="utf-8")
    (target / last).unlink(missing_ok=True)
    for path in list(target.iterdir()):
        if path.name == WORK:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    marker.write_text(f"{_MOVING} {new.name}", encoding="utf-8")
    _move_in(new, target, last)


def _move_in(new: Path, target: Path, last: str) -> None:
    for path in sorted(new.iterdir(), key=lambda path: path.name == last):
        path.replace(target / path.name)
    shutil.rmtree(target / WORK)


def finish_filling(target: Path, last: str) -> None:
    """Go on with a mount point's content where an earlier command was interrupted."""
    marker = target / WORK / _FILLING
    if not marker.is_file():
        return
    with locked(target):
        step, _, name = marker.read_text(encoding="utf-8").partition(" ")
        new = target / WORK / name
        if step == _EMPTYING:
            fill(new, target, last)
        else:
            _move_in(new, target, last)
