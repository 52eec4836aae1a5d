"""A place that several machines reach, where finished runs are found and unfinished ones go on.

Each run is a folder `<key>/` there: its files, and an index of their hashes that is written last.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from compress.folder import sha256
from compress_export.remote import reach_store, within

__all__ = ["Store"]

_INDEX = "index.json"


class Store:
    """Folders by key, at a path or URL that fsspec knows.

    Args:
        url: A folder that all machines see, or `s3://…`, `gs://…` and the like.

    Raises:
        RecipeError: It cannot be reached; the message names it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = reach_store(url)
        self._call(self._fs.makedirs, self._root, exist_ok=True)

    def has(self, key: str) -> bool:
        """Whether a finished run of that key is there."""
        return bool(self._index(key).get("whole"))

    def push(self, folder: Path, key: str, *, whole: bool) -> None:
        """Copy what has changed in a folder since it was last pushed.

        Args:
            folder: Of a run, finished or not.
            key: Of the run.
            whole: Whether it is finished.
        """
        there = self._index(key).get("files", {})
        here = {p.relative_to(folder).as_posix(): sha256(p) for p in _files(folder)}
        for name, digest in here.items():
            if there.get(name) != digest:
                target = f"{self._root}/{key}/{name}"
                self._call(self._fs.makedirs, target.rpartition("/")[0], exist_ok=True)
                self._call(self._fs.put_file, str(folder / name), target)
        index = json.dumps({"files": here, "whole": whole}).encode()
        self._call(self._fs.pipe_file, f"{self._root}/{key}/{_INDEX}", index)
        for name in sorted(set(there) - set(here)):
            if self._call(self._fs.exists, f"{self._root}/{key}/{name}"):
                self._call(self._fs.rm_file, f"{self._root}/{key}/{name}")

    def pull(self, key: str, folder: Path) -> bool:
        """Make `folder` what was last pushed; `False` where nothing was."""
        files: dict[str, str] = self._index(key).get("files", {})
        if not files:
            return False
        folder.mkdir(parents=True, exist_ok=True)
        for path in _files(folder):
            if path.relative_to(folder).as_posix() not in files:
                path.unlink()
        for name, digest in files.items():
            path = folder / name
            if not (path.is_file() and sha256(path) == digest):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._call(self._fs.get_file, f"{self._root}/{key}/{name}", str(path))
        return True

    def fetch(self, key: str, target: Path) -> None:
        """Put a finished run at `target`, which appears when it is complete."""
        temporary = target.with_name(f"{target.name}.fetched")
        self.pull(key, temporary)
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)

    def _index(self, key: str) -> dict[str, Any]:
        path = f"{self._root}/{key}/{_INDEX}"
        if not self._call(self._fs.exists, path):
            return {}
        found: dict[str, Any] = json.loads(self._call(self._fs.cat_file, path))
        return found

    def _call(self, call: Any, *arguments: Any, **settings: Any) -> Any:
        return within(self.url, call, *arguments, **settings)


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())
