"""URLs in the place of paths: `s3://`, `gs://`, `hf://`, `memory://` and what else fsspec knows.

What is read is copied here first; what is written appears there when it is complete, its manifest
last. While files are on their way an `upload.json` names them: a folder that has one is not read,
and is written again. One door for all commands: they see local paths alone.
"""

from __future__ import annotations

import atexit
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from compress.errors import BundleError, RecipeError
from compress.files.folder import MANIFEST, read_manifest
from compress.files.places import TOOL
from compress_export.console import note
from export.precision.variants import VARIANTS

__all__ = [
    "Sent",
    "StoreError",
    "fetch",
    "localised",
    "reach_store",
    "relative_name",
    "resolve",
    "within",
]

_URL = re.compile(r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]+://.+", re.DOTALL)
_COLLAPSED = re.compile(r"([a-z][a-z0-9+.-]+):/(?!/)(.+)")
_TOLD = ("--message", "--store", "--storage", "--address", "--where")
_OUTPUTS = ("--out", "-o", "--junit", "--summary", "--picture")
_APPENDED = "--summary"
_LAST = (MANIFEST, "report.json")
_UPLOAD = "upload.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Output:
    """Where something is written, and where it is to appear; what stood in its place before."""

    url: str
    path: Path
    before: bytes | None

    @property
    def written(self) -> bool:
        """Whether a command has put something there."""
        if not self.path.is_dir():
            return self.path.exists()
        found = [p for p in self.path.rglob("*") if p.is_file()]
        return [p.name for p in found] != [MANIFEST] or found[0].read_bytes() != self.before

    @property
    def beside(self) -> bool:
        """Whether a command has written something else than what it was asked for."""
        return any(path != self.path for path in self.path.parent.iterdir())


class StoreError(RecipeError):
    """A store cannot be reached, or does not take what is written."""


class Sent:
    """Outputs of one command that are to appear under URLs."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="compress-export-out-"))
        self._outputs: list[_Output] = []
        self._kept = False

    @property
    def urls(self) -> list[str]:
        """Where outputs are to appear."""
        return [output.url for output in self._outputs]

    def stand_in(self, url: str, *, appended: bool = False) -> str:
        """A local path to write in the place of `url`.

        What is there already is checked as a local output would be: a folder of ours is stood for
        by its manifest.

        Args:
            url: Of a file or a folder.
            appended: Whether a file that is there is written on.
        """
        path = self._folder / str(len(self._outputs)) / _last_part(url, "out")
        path.parent.mkdir()
        _check_target(url)
        fs, target = reach_store(url)
        before = None
        if appended and within(url, fs.isfile, target):
            within(url, fs.get_file, target, str(path))
        elif within(url, fs.exists, f"{target}/{MANIFEST}"):
            path.mkdir()
            within(url, fs.get_file, f"{target}/{MANIFEST}", str(path / MANIFEST))
            before = (path / MANIFEST).read_bytes()
        self._outputs.append(_Output(url=url, path=path, before=before))
        return str(path)

    def send(self) -> None:
        """Copy what was written; a folder's manifest goes last, and the old one first."""
        for output in self._outputs:
            try:
                _send(output)
            except RecipeError as error:
                self._kept = True
                where = output.path.parent
                raise RecipeError(f"{error}; what was written is kept in {where}") from error
            if output.written:
                note(f"sent to {_shown(output.url)}")

    def close(self) -> None:
        """Remove what is here, unless it was written and could not be sent."""
        if not self._kept:
            shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def localised(arguments: Sequence[str]) -> Iterator[tuple[list[str], Sent]]:
    """Arguments with a local path in the place of each URL.

    Inputs are fetched; outputs stand under local paths until `Sent.send` is called.

    Raises:
        RecipeError: An output would replace an input, or a store cannot be reached.
    """
    sent = Sent()
    try:
        found: list[str] = []
        inputs: list[str] = []
        for previous, argument in pairwise(["", *arguments]):
            option = argument.partition("=")[0] if argument.startswith("-") else previous
            option = "-o" if re.match(r"-o.", argument) else option
            match = _URL.search(argument)
            if match is None or option in _TOLD:
                found.append(argument)
                continue
            start, url = argument[: match.start()], match.group()
            if option in _OUTPUTS and "sweep" in arguments[:2]:
                raise RecipeError(
                    f"--out of a sweep must be a local folder, found {_shown(url)}: it goes on "
                    "there; share finished runs by --store"
                )
            if option in _OUTPUTS:
                found.append(start + sent.stand_in(url, appended=option == _APPENDED))
                continue
            url, at, variant = _without_variant(url)
            inputs.append(url)
            found.append(f"{start}{fetch(url)}{at}{variant}")
        for url in sent.urls:
            if url.rstrip("/") in (given.rstrip("/") for given in inputs):
                raise RecipeError(f"output must not replace an input, found {_shown(url)}")
        yield found, sent
    finally:
        sent.close()


def _without_variant(url: str) -> tuple[str, str, str]:
    """A contender's URL, and `@` with its variant if it names one."""
    place, at, variant = url.rpartition("@")
    if place and variant in {known.name for known in VARIANTS}:
        return place, at, variant
    return url, "", ""


def _last_part(url: str, otherwise: str) -> str:
    return url.rstrip("/").rpartition("/")[2] or otherwise


def resolve(base: Path, path: Path) -> Path:
    """Where a recipe's path lies: beside the recipe, or fetched from a URL."""
    collapsed = _COLLAPSED.fullmatch(str(path))
    if collapsed is None:
        return base / path
    scheme, rest = collapsed.groups()
    return fetch(f"{scheme}:///{rest}" if scheme == "file" else f"{scheme}://{rest}")


@cache
def fetch(url: str) -> Path:
    """A local copy of a file or folder, for the length of this process.

    Raises:
        RecipeError: There is nothing, or the store cannot be reached.
        BundleError: It is a folder of ours that is not complete.
    """
    fs, path = reach_store(url)
    folder = Path(tempfile.mkdtemp(prefix="compress-export-in-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = folder / _last_part(url, "in")
    if within(url, fs.isdir, path):
        target.mkdir()
        if within(url, fs.exists, f"{path}/{_UPLOAD}"):
            raise BundleError(
                f"{_shown(url)} must be complete, found {_UPLOAD}: an upload did not end; write it "
                "again"
            )
        for name in within(url, fs.find, path):
            inside = target / relative_name(name, path)
            if not inside.resolve().is_relative_to(target.resolve()):
                raise BundleError(f"{_shown(url)} must hold files of its own alone, found {name!r}")
            inside.parent.mkdir(parents=True, exist_ok=True)
            within(url, fs.get_file, name, str(inside))
    elif within(url, fs.exists, path):
        within(url, fs.get_file, path, str(target))
    else:
        raise RecipeError(f"{_shown(url)} must exist, found nothing there; correct the URL")
    return target


def _send(output: _Output) -> None:
    """Copy a file or folder to its URL.

    Raises:
        RecipeError: It cannot be, or the command has written something else.
    """
    if not output.written:
        if output.beside:
            raise RecipeError(f"{_shown(output.url)} was not written, but something beside it")
        return
    if output.path.is_dir():
        _send_folder(output.path, output.url)
        return
    fs, target = reach_store(output.url)
    within(output.url, fs.put_file, str(output.path), target)


def _send_folder(folder: Path, url: str) -> None:
    """Take the old manifest away, send the new files and last the new manifest, drop stale ones."""
    fs, target = reach_store(url)
    old = set(_old_files(url))
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    files.sort(key=lambda p: p.name in _LAST and p.parent == folder)
    sent = {path.relative_to(folder).as_posix() for path in files}
    within(url, fs.makedirs, target, exist_ok=True)
    marker = {"tool": TOOL, "files": dict.fromkeys(sorted(old | sent), "")}
    within(url, fs.pipe_file, f"{target}/{_UPLOAD}", json.dumps(marker).encode())
    for name in _LAST:
        if within(url, fs.exists, f"{target}/{name}"):
            within(url, fs.rm_file, f"{target}/{name}")
    for path in files:
        inside = path.relative_to(folder).as_posix()
        name = f"{target}/{inside}"
        within(url, fs.makedirs, name.rpartition("/")[0], exist_ok=True)
        within(url, fs.put_file, str(path), name)
    for inside in [*sorted(old - sent - {_UPLOAD}), _UPLOAD]:
        if within(url, fs.exists, f"{target}/{inside}"):
            within(url, fs.rm_file, f"{target}/{inside}")


def _old_files(url: str) -> list[str]:
    """What this tool wrote at a URL: by its manifest, or by an upload that did not end."""
    fs, target = reach_store(url)
    for name in (_UPLOAD, MANIFEST):
        if within(url, fs.exists, f"{target}/{name}"):
            with tempfile.TemporaryDirectory() as temporary:
                within(url, fs.get_file, f"{target}/{name}", f"{temporary}/{MANIFEST}")
                return [*read_manifest(Path(temporary))["files"], name]
    return []


def _check_target(url: str) -> None:
    """Refuse to write where something stands that this tool did not write."""
    fs, path = reach_store(url)
    if not within(url, fs.isdir, path):
        return
    own = {*_old_files(url), *_LAST, "report.md", "report.html"}
    found = [relative_name(name, path) for name in within(url, fs.find, path)]
    foreign = sorted(set(found) - own)
    if foreign:
        raise BundleError(
            f"output must be new, empty or written by {TOOL}, found {foreign[0]} in "
            f"{_shown(url)}; name another place"
        )


def reach_store(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise RecipeError(
            f"{_shown(url)} needs a file system that is not installed: "
            f"{' '.join(str(error).split())[:160]}"
        ) from error
    return fs, str(path).rstrip("/")


def within(url: str, call: Any, *arguments: Any, **settings: Any) -> Any:
    """What a store answers, or one line that names the URL."""
    try:
        return call(*arguments, **settings)
    except Exception as error:  # each file system raises kinds of its own
        raise StoreError(
            f"{_shown(url)} must be readable or writable from here, found: {type(error).__name__}: "
            f"{_shown(' '.join(str(error).split()))[:160]}; check the URL and the credentials"
        ) from error


def _shown(url: str) -> str:
    """A URL, or a text with one, as messages have it: without the secrets that it may carry."""
    bare = re.sub(r"://[^/@\s]*:[^/@\s]*@", "://***@", url)
    return re.sub(r"([?&][^=&\s'\"]+)=[^&\s'\"]*", r"\1=***", bare)


def relative_name(name: str, path: str) -> str:
    """A file's name from the folder that it lies in; `path` and `name` as stores write them."""
    return _bare(name).removeprefix(_bare(path)).lstrip("/")


def _bare(name: str) -> str:
    return name.partition("://")[2].lstrip("/") if "://" in name else name.lstrip("/")
