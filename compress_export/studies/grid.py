"""A grid of independent parts, worked in parallel processes, each kept so that a study goes on.

Knows rows and files; must not know what a cell does.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

from compress.errors import BundleError, TrainingError
from compress.files.folder import versions, write_whole
from compress.model.batches import Progress
from compress_export.stages import content_key, file_hashes
from compress_export.workers import Answer, Workers, calm
from export.graph.session import usable_cores

__all__ = ["Cell", "Grid", "Row", "own_folder"]

Row: TypeAlias = dict[str, Any]

_KEPT = "cells"
_MOST_JOBS = 4


@dataclass(frozen=True, kw_only=True)
class Cell(ABC):
    """One part of a grid: a frozen dataclass of plain data, so that it can go to a process."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Of the cell, unique in its study, fit for a file's name."""

    @abstractmethod
    def work(self) -> list[Row]:
        """Do it; the same cell always gives the same rows."""

    def reads(self) -> tuple[str, ...]:
        """Checkpoints and files whose content the rows depend on."""
        return ()

    def writes(self) -> tuple[str, ...]:
        """Files that later cells need: without them the cell is worked again."""
        return ()

    def key(self) -> str:
        """Hash of the cell's fields, of what it reads, and of this version of the tool."""
        read = [_content(path) for path in self.reads()]
        mine = {"kind": type(self).__name__, "cell": asdict(self), "read": read}
        return content_key(mine | {"version": versions()["compress-export"]})

    def is_whole(self) -> bool:
        """Whether all that it writes is there."""
        return all(Path(path).exists() for path in self.writes())


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Where cells are kept, and how many are worked at a time.

    Attributes:
        folder: Of the study.
        jobs: Processes; each has an even part of the cores.
        progress: Told after every cell.
    """

    folder: Path
    jobs: int
    progress: Progress

    @staticmethod
    def jobs_for(given: int | None) -> int:
        """As many as were asked for; else one a core, four at most."""
        return given or min(_MOST_JOBS, usable_cores())

    def __call__(self, label: str, cells: Sequence[Cell]) -> list[Row]:
        """The rows of all cells in their order; those that an earlier call has are not repeated.

        Raises:
            ToolchainError: A cell's; what others gave is kept.
        """
        folder = self.folder / _KEPT
        folder.mkdir(parents=True, exist_ok=True)
        keys = {cell.name: cell.key() for cell in cells}
        assert len(keys) == len(cells)  # names are unique
        left = [
            cell
            for cell in cells
            if _kept(folder, cell.name, keys[cell.name]) is None or not cell.is_whole()
        ]
        if not cells:
            return []
        self.progress(label, len(cells) - len(left), len(cells))
        self._work(label, left, keys, len(cells))
        found = [_kept(folder, cell.name, keys[cell.name]) for cell in cells]
        return [row for rows in found for row in rows or []]

    def _work(self, label: str, left: list[Cell], keys: dict[str, str], n_cells: int) -> None:
        if self.jobs == 1 or len(left) == 1:
            for done, cell in enumerate(left, start=1):
                self._keep(cell, keys[cell.name], *_worked(cell))
                self.progress(label, n_cells - len(left) + done, n_cells)
            return
        cells, waiting = {cell.name: cell for cell in left}, list(left)
        workers = Workers(prepare=partial(_settle, max(1, usable_cores() // self.jobs)))
        try:
            for _ in range(min(self.jobs, len(waiting))):
                _submit(workers, waiting)
            for done in range(1, len(left) + 1):
                (answer,) = workers.wait(most=1)
                cell = cells[str(answer.ticket)]
                self._keep(cell, keys[cell.name], *_result(answer, cell))
                self.progress(label, n_cells - len(left) + done, n_cells)
                if waiting:
                    _submit(workers, waiting)
        finally:
            workers.close()

    def _keep(self, cell: Cell, key: str, rows: list[Row], seconds: float) -> None:
        text = json.dumps({"key": key, "seconds": round(seconds, 2), "rows": rows})
        write_whole(self.folder / _KEPT / f"{cell.name}.json", text)


@contextmanager
def own_folder(folder: Path, study: str, model: str = "") -> Iterator[None]:
    """Within the block, `folder` is that of a study; it is gone again if nothing came into it.

    Args:
        folder: New, empty, or of the same study.
        study: Its name.
        model: That it is of.

    Raises:
        BundleError: It holds another study, one of another model, or something else.
    """
    mark = folder / "study.json"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        found, of = _study_in(mark)
        if found != study or (model and of and of != model):
            told = f"{found} of {of}" if of else found
            raise BundleError(
                f"--out must be a folder of an earlier `study {study}`"
                f"{f' of {model}' if model else ''}, new or empty, found {told} in {folder}; "
                "name another"
            )
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps({"schema": 1, "study": study, "model": model}), encoding="utf-8")
    try:
        yield
    finally:
        if list(folder.iterdir()) == [mark]:
            mark.unlink()
            folder.rmdir()


def _study_in(mark: Path) -> tuple[str, str]:
    """Which study a folder is of, and of which model, as far as it says."""
    try:
        found = json.loads(mark.read_text(encoding="utf-8"))
        return found["study"], found.get("model") or found.get("facts", {}).get("model", "")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return "other files", ""


def _content(path: str) -> str:
    """Hash of a file or folder; the name itself of what is not on this machine."""
    file = Path(path)
    if not file.exists():
        return path
    files = [file] if file.is_file() else sorted(p for p in file.rglob("*") if p.is_file())
    stamps = tuple((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in files)
    return _hashed(path, stamps)


@lru_cache
def _hashed(path: str, _: tuple[tuple[str, int, int], ...]) -> str:
    """Of a path whose files bear these stamps: many cells read the same checkpoint."""
    file = Path(path)
    return content_key(file_hashes([file], file.parent))


def _kept(folder: Path, name: str, key: str) -> list[Row] | None:
    try:
        found = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    rows: list[Row] | None = found["rows"] if found.get("key") == key else None
    return rows


def _settle(threads: int, _: int | None) -> None:
    """Prepare a process that works at cells."""
    import torch

    calm()
    torch.set_num_threads(threads)


def _submit(workers: Workers, waiting: list[Cell]) -> None:
    cell = waiting.pop(0)
    workers.submit(cell.name, _worked, cell)


def _worked(cell: Cell) -> tuple[list[Row], float]:
    start = time.perf_counter()
    return cell.work(), time.perf_counter() - start


def _result(answer: Answer, cell: Cell) -> tuple[list[Row], float]:
    if answer.lost:
        raise TrainingError(
            f"a process of the study ended while it worked at {cell.name}, as when memory runs "
            "out; call again with fewer --jobs, it goes on from what is done"
        )
    if answer.error is not None:
        raise answer.error
    found: tuple[list[Row], float] = answer.value
    return found
