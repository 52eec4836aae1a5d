"""What makes two runs the same: recipe, files that it reads, versions. Opens files alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from compress.files.folder import sha256, versions
from compress.files.hub import split_revision
from compress_export.fingerprint import fingerprint
from compress_export.stages import RESULTS, content_key

__all__ = ["Hashes", "run_key"]

_FILES = {
    ("model",),
    ("data",),
    ("target", "table"),
    ("task", "train"),
    ("task", "validation"),
    ("task", "texts"),
}
"""Fields of a recipe that name files or folders."""
_WHERE = {("recover", "gradient_checkpointing"), ("recover", "teacher_device")}
"""Fields that say where and how something is computed, and not what."""


class Hashes:
    """Hashes of files, those that have not changed since they were last hashed from memory.

    Args:
        known: By path: time of change in ns, size in bytes, SHA-256, as `to_dict` gave them.
    """

    def __init__(self, known: Mapping[str, Any] | None = None) -> None:
        self._known: dict[str, list[Any]] = dict(known or {})

    def of(self, place: Path) -> dict[str, str]:
        """SHA-256 of a file, or of all files under a folder, by their path from it."""
        files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
        return {file.relative_to(place).as_posix(): self._hash(file) for file in files}

    def to_dict(self) -> dict[str, list[Any]]:
        """To remember."""
        return dict(self._known)

    def _hash(self, file: Path) -> str:
        found = file.stat()
        stamp = [found.st_mtime_ns, found.st_size]
        known = self._known.get(str(file))
        if known is None or known[:2] != stamp:
            known = [*stamp, sha256(file)]
            self._known[str(file)] = known
        return str(known[2])


def run_key(recipe: Mapping[str, Any], base: Path, kind: str | None, hashes: Hashes) -> str:
    """Hash of all that decides what a run gives, but for the machine that it is measured on.

    Args:
        recipe: As plain data.
        base: The folder that its paths are taken from.
        kind: Of the device, where a run is for one kind.
        hashes: Of files.
    """
    content = _by_content(recipe, base, recipe.get("task"), hashes, ())
    return content_key(
        {"recipe": content, "kind": kind, "versions": versions(), "results": RESULTS}
    )


def _by_content(
    part: Mapping[str, Any], base: Path, task: Any, hashes: Hashes, above: tuple[str, ...]
) -> dict[str, Any]:
    """A recipe with hashes in the place of files and folders: where they lie does not matter."""
    found: dict[str, Any] = {}
    for name, value in part.items():
        place = (*above, name)
        if place in _WHERE:
            continue
        if isinstance(value, dict):
            found[name] = _by_content(value, base, task, hashes, place)
        elif place in _FILES and value and (base / value).exists():
            own = _folder_of_task(base / value, task) if name == "data" else None
            found[name] = hashes.of(own or base / value)
        elif place in _FILES and value:
            found[name] = {"name": value, "content": _elsewhere(str(value), place)}
        else:
            found[name] = value
    return found


@cache
def _elsewhere(value: str, place: tuple[str, ...]) -> Any:
    """What tells the content of a URL or of a model on the Hub, where that can be asked."""
    if "://" in value:
        return fingerprint(value)
    if place != ("model",):
        return None
    from huggingface_hub import model_info, snapshot_download

    repository, revision = split_revision(value)
    try:
        return model_info(repository, revision=revision).sha
    except (OSError, ValueError):  # no network, or no such model
        pass
    try:
        return Path(snapshot_download(repository, revision=revision, local_files_only=True)).name
    except (OSError, ValueError):  # not downloaded either: the run itself says so
        return None


def _folder_of_task(data: Path, task: Any) -> Path | None:
    """A GLUE task's folder, so that what lies beside it makes no difference: `SST-2` for `sst2`."""
    if not data.is_dir() or not isinstance(task, str):
        return None
    folders = (p for p in data.iterdir() if p.is_dir())
    return next((p for p in folders if re.sub(r"\W", "", p.name).lower() == task), None)
