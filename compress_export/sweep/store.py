"""A place that several machines reach, where finished runs are found and unfinished ones go on.

Each run is a folder there, named by its key: its files, and an index of their hashes that is
written last. The files of a finished run lie in a folder named by what they hold, so that two
sweeps that finish the same run at once do not mix theirs. Unfinished runs are under a key of their
sweep's own.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from compress.files.folder import replace_folder, sha256
from compress_export.remote import StoreError, reach_store, within
from compress_export.stages import content_key

__all__ = ["Store", "TornError", "names_in"]

_INDEX = "index.json"


class TornError(StoreError):
    """What is in the store is not what its index says."""


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

    def names(self, key: str) -> list[str]:
        """Files that are there under a key, by their path from the run's folder."""
        return list(self._index(key).get("files", {}))

    def push(self, folder: Path, key: str, *, whole: bool) -> None:
        """Copy what has changed in a folder since it was last pushed.

        What is finished there is left as it is: the same key is the same run.

        Args:
            folder: Of a run, finished or not.
            key: Of the run; one that is not finished has a key of its sweep's own.
            whole: Whether it is finished.
        """
        index = self._index(key)
        if index.get("whole"):
            return
        there = index.get("files", {})
        here = {name: sha256(folder / name) for name in names_in(folder)}
        at = content_key(here)[:16] if whole else ""
        for name, digest in here.items():
            if whole or there.get(name) != digest:
                target = self._place(key, at, name)
                self._call(self._fs.makedirs, target.rpartition("/")[0], exist_ok=True)
                self._call(self._fs.put_file, str(folder / name), target)
        self._write_index(key, {"files": here, "whole": whole, "at": at})
        for name in sorted(set(there) - (set() if whole else set(here))):
            if self._call(self._fs.exists, f"{self._root}/{key}/{name}"):
                self._call(self._fs.rm_file, f"{self._root}/{key}/{name}")

    def pull(self, key: str, target: Path) -> bool:
        """Make `target` what was last pushed, whole or not at all; `False` where nothing was.

        Raises:
            TornError: A file is not what the index says.
        """
        index = self._index(key)
        files: dict[str, str] = index.get("files", {})
        if not files:
            return False
        fresh = target.with_name(f"{target.name}.pulled")
        shutil.rmtree(fresh, ignore_errors=True)
        for name, digest in files.items():
            path, here = fresh / name, target / name
            if not path.resolve().is_relative_to(fresh.resolve()):
                raise StoreError(f"{self.url}/{key} must hold files of its own alone, found {name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            if here.is_file() and sha256(here) == digest:
                shutil.copy2(here, path)
                continue
            self._call(self._fs.get_file, self._place(key, index.get("at", ""), name), str(path))
            if sha256(path) != digest:
                raise TornError(
                    f"{self.url}/{key}/{name} must be what its index says, found other bytes; "
                    "remove the folder there"
                )
        replace_folder(fresh, target)
        return True

    def drop(self, key: str) -> None:
        """Remove what was pushed under a key."""
        if self._call(self._fs.exists, f"{self._root}/{key}"):
            self._call(self._fs.rm, f"{self._root}/{key}", recursive=True)

    def _place(self, key: str, at: str, name: str) -> str:
        return "/".join(part for part in (self._root, key, at, name) if part)

    def _index(self, key: str) -> dict[str, Any]:
        path = f"{self._root}/{key}/{_INDEX}"
        if not self._call(self._fs.exists, path):
            return {}
        try:
            found: dict[str, Any] = json.loads(self._call(self._fs.cat_file, path))
        except ValueError:  # somebody is writing it
            return {}
        return found

    def _write_index(self, key: str, index: dict[str, Any]) -> None:
        path = f"{self._root}/{key}/{_INDEX}"
        self._call(self._fs.pipe_file, f"{path}.new", json.dumps(index).encode())
        self._call(self._fs.mv, f"{path}.new", path)

    def _call(self, call: Any, *arguments: Any, **settings: Any) -> Any:
        return within(self.url, call, *arguments, **settings)


def names_in(folder: Path) -> list[str]:
    """All files under a folder, by their path from it; none where there is no such folder."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
