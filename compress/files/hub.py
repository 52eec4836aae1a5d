"""Model ids on the Hugging Face Hub: `organisation/name`, or `organisation/name@revision`.

Knows how an id is written and where its files are downloaded to; must not read a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["is_hub_id", "snapshot", "split_revision"]


def split_revision(source: str) -> tuple[str, str]:
    """The repository and the revision of a Hub id.

    Args:
        source: A folder, `name`, `organisation/name`, or one of these ids with `@` and a branch,
            a tag or a commit. A folder is never split.

    Returns:
        The repository's id, and the revision: `main` where none is given.

    >>> split_revision("org/model@v1.2")
    ('org/model', 'v1.2')
    >>> split_revision("org/model")
    ('org/model', 'main')
    """
    if Path(source).is_dir():
        return source, "main"
    repository, _, revision = source.partition("@")
    return repository, revision or "main"


def is_hub_id(source: str) -> bool:
    """Whether a string has the form of a Hub id, with or without a revision."""
    repository, at, revision = source.partition("@")
    parts = repository.split("/")
    named = len(parts) <= 2 and all(parts) and not source.startswith((".", "/", "~"))
    return named and bool(revision) == bool(at)


def snapshot(source: str | Path, patterns: Sequence[str] | None = None) -> Path:
    """The folder itself, or the local copy of a Hub model's files, downloaded where it is missing.

    Args:
        source: A folder or a Hub id.
        patterns: Names of the files to download, with `*`. Default: all.

    Raises:
        OSError: The Hub cannot be reached and has no copy here, or there is no such model.
    """
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    repository, revision = split_revision(str(source))
    wanted = None if patterns is None else list(patterns)
    return Path(snapshot_download(repository, revision=revision, allow_patterns=wanted))
