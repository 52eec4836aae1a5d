"""What tells the content under a URL from another, without reading it where the store can say."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from compress_export.remote import reach_store, relative_name, within

__all__ = ["fingerprint"]

_VERSIONS = (
    "ETag", "etag", "md5Hash", "Content-MD5", "Digest", "generation",
    "Last-Modified", "LastModified", "last_modified", "mtime",
)  # fmt: skip
"""What stores call that by which one content is told from another."""


def fingerprint(url: str) -> dict[str, str]:
    """What tells the content under a URL from another, by file.

    That is what the store says of it (an etag, a checksum, the time of the last change), or, of a
    store that says nothing, the SHA-256 of what it holds.

    Raises:
        RecipeError: The store cannot be reached.
    """
    fs, path = reach_store(url)
    names = within(url, fs.find, path) if within(url, fs.isdir, path) else [path]
    return {relative_name(name, path): _version(url, fs, name) for name in names}


def _version(url: str, fs: Any, name: str) -> str:
    told = within(url, fs.info, name)
    known = {key: str(told[key]) for key in _VERSIONS if told.get(key)}
    if known:
        return json.dumps(known | {"size": told.get("size")})
    return hashlib.sha256(within(url, fs.cat_file, name)).hexdigest()
