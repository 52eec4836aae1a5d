"""Stages that resume: what each read and wrote, by content hash.

A stage is done when its record says that it read the same things and its outputs are still what
it wrote. Knows files and hashes; must not know what a stage does.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from compress.errors import BundleError
from compress.files.folder import sha256, write_whole

__all__ = ["RESULTS", "STEPS", "Stages", "Step", "content_key", "file_hashes"]

Step: TypeAlias = Literal["prune", "recover", "export", "evaluate", "bench"]
STEPS: tuple[Step, ...] = get_args(Step)
"""What a run does in its order, by the command line's verbs; a step is one stage or more."""


RESULTS = 3
"""Part of every key; raised when stages give other results than before for the same inputs."""


class Stages:
    """The stages of one run, recorded in `folder/stages/<name>.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "stages").mkdir(parents=True, exist_ok=True)

    def is_done(self, name: str, key: str) -> bool:
        """Whether the stage has run on these inputs and its outputs are untouched."""
        record = self._read(name)
        if record is None or record.get("key") != key:
            return False
        outputs: dict[str, str] = record.get("outputs", {})
        return all(
            (self.folder / path).is_file() and sha256(self.folder / path) == digest
            for path, digest in outputs.items()
        )

    def run(
        self,
        name: str,
        key: str,
        outputs: Sequence[str],
        work: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        """The stage's result: the recorded one if it is done, else that of `work`.

        Args:
            name: Of the stage.
            key: Hash of all that it reads, see `content_key`.
            outputs: Files or folders under the run's folder that it writes.
            work: Does it, and returns its result as plain data.
        """
        if not self.is_done(name, key):
            self._clear(name, outputs)
            start = time.perf_counter()
            result = work()
            self._write(name, key, outputs, result, time.perf_counter() - start)
        record = self._read(name)
        assert record is not None  # just written
        found: dict[str, Any] = record["result"]
        return found

    def outputs(self, name: str) -> dict[str, str]:
        """What a stage wrote, by content hash; nothing if it has not run."""
        record = self._read(name) or {}
        written: dict[str, str] = record.get("outputs", {})
        return written

    def check_unchanged(self) -> None:
        """Refuse a folder in which a stage's files are no longer as the stage wrote them.

        Raises:
            BundleError: Something else wrote into the folder meanwhile; the file is named.
        """
        for record in sorted((self.folder / "stages").glob("*.json")):
            for name, digest in self.outputs(record.stem).items():
                path = self.folder / name
                if path.is_file() and sha256(path) != digest:
                    raise BundleError(
                        f"{path} changed since stage {record.stem!r} wrote it; run again, with "
                        "nothing else writing this folder"
                    )

    def _path(self, name: str) -> Path:
        return self.folder / "stages" / f"{name}.json"

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            record = json.loads(self._path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def _clear(self, name: str, outputs: Sequence[str]) -> None:
        self._path(name).unlink(missing_ok=True)
        for output in outputs:
            path = self.folder / output
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _write(
        self, name: str, key: str, outputs: Sequence[str], result: dict[str, Any], seconds: float
    ) -> None:
        record = {
            "stage": name,
            "key": key,
            "outputs": file_hashes([self.folder / output for output in outputs], self.folder),
            "seconds": round(seconds, 3),
            "result": result,
        }
        write_whole(self._path(name), json.dumps(record))


def content_key(parts: Mapping[str, Any]) -> str:
    """One hash of plain data."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_hashes(paths: Sequence[Path], base: Path) -> dict[str, str]:
    """SHA-256 of files, and of all files under folders, by their path from `base`."""
    files = [f for p in paths for f in ([p] if p.is_file() else sorted(p.rglob("*")))]
    return {f.relative_to(base).as_posix(): sha256(f) for f in files if f.is_file()}
