"""`push`: a bundle to a repository on the Hugging Face Hub, its card with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from compress.errors import BundleError, RecipeError
from compress.folder import MANIFEST, read_manifest, verify_folder
from compress_export.console import out as console

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_LOCAL = "stages/"


def run(bundle: Path, repository: str, *, private: bool, message: str) -> None:
    """Check every file of a folder of ours, then upload it in one commit.

    Records of a run's stages stay here, and the manifest that goes says nothing of them. What an
    earlier push put there and this one lacks is deleted.

    Raises:
        RecipeError: The Hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HFValidationError

    if repository.count("/") != 1:
        raise RecipeError(f"a repository must be OWNER/NAME, found {repository!r}; correct it")
    verify_folder(bundle)
    manifest = read_manifest(bundle)
    files = {n: sha for n, sha in manifest["files"].items() if not n.startswith(_LOCAL)}
    text = json.dumps(manifest | {"files": files}, indent=2) + "\n"
    api = HfApi(library_name="compress-export")
    try:
        created = api.create_repo(repository, private=private or None, exist_ok=True)
        adds = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=bundle / name) for name in files
        ]
        adds.append(CommitOperationAdd(path_in_repo=MANIFEST, path_or_fileobj=text.encode()))
        there = set(api.list_repo_files(created.repo_id))
        stale = sorted(there & set(_pushed_before(api, created.repo_id, there)) - set(files))
        drops = [CommitOperationDelete(path_in_repo=name) for name in stale]
        api.create_commit(created.repo_id, [*adds, *drops], commit_message=message)
    except HFValidationError as error:
        raise RecipeError(
            f"a repository must be OWNER/NAME, found {repository!r}; correct it"
        ) from error
    except Exception as error:  # the client and what it speaks by raise kinds of their own
        raise RecipeError(
            f"{repository} must be a repository that you may write to, found: "
            f"{' '.join(str(error).split())[:200]}; check the network, or log in with "
            "`hf auth login`"
        ) from error
    console.print(f"pushed: {created}", soft_wrap=True)


def _pushed_before(api: HfApi, repository: str, there: set[str]) -> list[str]:
    """Files that an earlier push's manifest lists."""
    if MANIFEST not in there:
        return []
    path = api.hf_hub_download(repository, MANIFEST)
    try:
        return list(read_manifest(Path(path).parent)["files"])
    except BundleError:
        return []
