"""Output folders that appear whole or not at all, and that know what is in them.

A folder is written beside its final place, given a manifest with the SHA-256 of every file, and
renamed when it is complete. A mount point cannot be renamed: there it is written inside, and its
manifest comes last. What stands there and is not ours, or was edited, is never touched, and one
process at a time writes a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from compress.errors import BundleError
from compress.files.places import TOOL, WORK, fill, finish_filling, is_mount, locked

__all__ = [
    "MANIFEST",
    "changed_files",
    "check_target",
    "read_manifest",
    "replace_folder",
    "sha256",
    "verify_folder",
    "verify_own",
    "versions",
    "write_manifest",
    "write_whole",
    "writing",
]

MANIFEST = "manifest.json"
SCHEMA = 1
_LIBRARIES = ("torch", "transformers", "onnx", "onnxscript", "numpy", "safetensors")


@contextmanager
def writing(target: Path, kind: str, **facts: Any) -> Iterator[Path]:
    """Write a folder: yields a temporary one that becomes `target` when the block ends well.

    Args:
        target: Absent, an empty folder, or an earlier output of the same kind, which is replaced.
        kind: What the folder is (`checkpoint`, `bundle`), for its manifest.
        facts: More for the manifest.

    Raises:
        BundleError: `target` holds anything else, see `check_target`; where that came to be while
            the block ran, what was written is kept beside it.
    """
    target = target.absolute()
    with locked(target):
        check_target(target, kind)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(target)
        try:
            yield temporary
            write_manifest(temporary, kind, **facts)
            _open_to_readers(temporary)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        try:
            check_target(target, kind)
            replace_folder(temporary, target)
        except (BundleError, OSError) as error:
            raise BundleError(f"{error}; what was written is kept in {temporary}") from error


def _temporary(target: Path) -> Path:
    if is_mount(target):
        (target / WORK).mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(dir=target / WORK))
    return Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))


def write_whole(path: Path, text: str) -> None:
    """Write a file that appears, or changes, when all of it is there; several may at once."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.umask(masked := os.umask(0))
        temporary.chmod(0o666 & ~masked)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_folder(new: Path, target: Path) -> None:
    """Rename `new` to `target`; what was there goes only once the new one stands.

    A mount point is emptied of what is ours and filled file by file, its manifest last: until then
    it has none, and does not look finished.
    """
    if not target.exists():
        new.replace(target)
        return
    if is_mount(target):
        fill(new, target, MANIFEST)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent)) / target.name
    target.replace(old)
    try:
        new.replace(target)
    except BaseException:
        old.replace(target)
        raise
    shutil.rmtree(old.parent, ignore_errors=True)


def _open_to_readers(folder: Path) -> None:
    """Give files the usual rights: temporary folders and safetensors write for the owner alone."""
    os.umask(masked := os.umask(0))
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~masked)


def check_target(target: Path, kind: str) -> None:
    """Refuse an output place that holds something that this tool did not write as that kind.

    Args:
        target: Where the output is to appear.
        kind: What it will be, as its manifest says.

    Raises:
        BundleError: `target` is a file, or holds another kind of output, any other file or an
            edited one, or is the folder that the program runs in.
    """
    if Path.cwd().is_relative_to(target.resolve()):
        raise BundleError(
            f"output must be a folder of its own, found {target}, where the current folder lies; "
            "name another place"
        )
    above = next(p for p in target.absolute().parents if p.exists() or p.is_symlink())
    if not above.is_dir():
        raise BundleError(
            f"output must lie in a folder, found the file {above}; name another place"
        )
    _check_writable(target)
    finish_filling(target, MANIFEST)
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir():
        raise BundleError(f"output must be a folder, found the file {target}; name another place")
    found = {
        p.relative_to(target).as_posix()
        for p in target.rglob("*")
        if not p.is_dir() and p.relative_to(target).parts[0] != WORK
    }
    if not found:
        return
    manifest = _own_manifest(target)
    if manifest is None:
        raise BundleError(
            f"output must be new, empty or written by {TOOL}, found other files in {target}; "
            "name another folder"
        )
    if manifest.get("kind") != kind:
        raise BundleError(
            f"output must be a new folder or an earlier {kind}, found a {manifest.get('kind')} in "
            f"{target}; name another folder"
        )
    foreign = sorted(found - set(manifest["files"]) - {MANIFEST})
    if foreign:
        raise BundleError(
            f"output would replace {target / foreign[0]}, which {TOOL} did not write; "
            "move it away, or name another folder"
        )
    edited = next((name for name in changed_files(target) if name in found), None)
    if edited is not None:
        raise BundleError(
            f"output would replace {target / edited}, which was edited since {TOOL} wrote it; move "
            "it away, or name another folder"
        )


def _check_writable(target: Path) -> None:
    """Refuse a place where nothing can be written, before any work."""
    above = next(p for p in (target, *target.absolute().parents) if p.exists())
    place = above if above != target or is_mount(target) else target.absolute().parent
    if above.is_dir() and not os.access(place, os.W_OK | os.X_OK):
        raise BundleError(
            f"output cannot be written to {target}: {place} is not writable for this user; name "
            "another place, or change its rights"
        )


def write_manifest(folder: Path, kind: str, **facts: Any) -> None:
    """Write `manifest.json`: kind, versions, the SHA-256 of every file, and `facts`."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
    files = [p for p in files if p.relative_to(folder).parts[0] != WORK]
    manifest = {
        "schema": SCHEMA,
        "tool": TOOL,
        "kind": kind,
        "versions": versions(),
        **facts,
        "files": {p.relative_to(folder).as_posix(): sha256(p) for p in files},
    }
    text = json.dumps(manifest, indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder that this tool wrote.

    Raises:
        BundleError: There is none, or it is not ours.
    """
    if not folder.is_dir():
        raise BundleError(
            f"{folder} must be a folder that {TOOL} wrote, found none; correct the path"
        )
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{folder} must hold a readable {MANIFEST}, found {error}; write the folder again"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("tool") != TOOL:
        raise BundleError(f"{folder / MANIFEST} must be of {TOOL}, found another tool's")
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(map(_inside, files, files.values())):
        raise BundleError(
            f"{folder / MANIFEST} must list files of its own folder with their SHA-256, found "
            "something else; write the folder again"
        )
    return manifest


def verify_folder(folder: Path, under: str = "") -> None:
    """Compare files with their SHA-256 in the manifest.

    Args:
        folder: A folder with its manifest.
        under: Only files of this folder in it, such as `onnx/cpu-fp32`.

    Raises:
        BundleError: A file is missing or edited; the message names it.
    """
    for name in changed_files(folder, under):
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} must exist, found none; write the folder again")
        raise BundleError(
            f"{path} differs from its manifest; write the folder again, or remove its "
            f"{MANIFEST} if the change is yours"
        )


def changed_files(folder: Path, under: str = "") -> Iterator[str]:
    """Names of files that are missing or not as the manifest has them.

    Args:
        folder: A folder with its manifest.
        under: See `verify_folder`.

    Raises:
        BundleError: See `read_manifest`.
    """
    for name, expected in read_manifest(folder)["files"].items():
        path = folder / name
        if name.startswith(under) and not (path.is_file() and sha256(path) == expected):
            yield name


def verify_own(folder: Path, under: str = "") -> None:
    """The same for a folder with a manifest of ours; one without is taken as it is.

    Raises:
        BundleError: See `verify_folder`; or the manifest itself is torn.
    """
    manifest = folder / MANIFEST
    if manifest.is_file() and f'"{TOOL}"' in manifest.read_text("utf-8", errors="replace"):
        verify_folder(folder, under)


def _inside(name: str, digest: object) -> bool:
    """Whether a manifest's entry is a path that stays in the folder, with a digest."""
    path = PurePosixPath(name)
    own = not path.is_absolute() and ".." not in path.parts and "\\" not in name
    return own and isinstance(digest, str) and "\0" not in name


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of this tool and of the libraries that decide what it writes."""
    found = {TOOL: _version(TOOL)} | {name: _version(name) for name in _LIBRARIES}
    found["onnxruntime"] = _version("onnxruntime-gpu") or _version("onnxruntime")
    return {name: version for name, version in found.items() if version}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _own_manifest(folder: Path) -> dict[str, Any] | None:
    try:
        return read_manifest(folder)
    except BundleError:
        return None
