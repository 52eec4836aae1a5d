"""`push`: a bundle to a repository on the Hugging Face Hub, its card with it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report.write import write_report
from compress.errors import BundleError, RecipeError
from compress.files.folder import MANIFEST, read_manifest, sha256, verify_folder
from compress_export.console import note
from compress_export.console import out as console
from compress_export.reports import read_recipe, read_report

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_LOCAL = "stages/"


def run(bundle: Path, repository: str, *, private: bool, message: str, with_texts: bool) -> None:
    """Check every file of a folder of ours, then upload it in one commit.

    Records of a run's stages stay here, and so do texts: the report that goes lists no example on
    which student and teacher disagree, unless they are asked for. The manifest is of what goes.
    What an earlier push put there and this one lacks is deleted.

    Args:
        bundle: The folder.
        repository: OWNER/NAME.
        private: Make a new repository private.
        message: Of the commit.
        with_texts: Publish the report with the validation texts that it quotes.

    Raises:
        RecipeError: The Hub refuses, or cannot be reached.
    """
    if repository.count("/") != 1:
        raise RecipeError(f"a repository must be OWNER/NAME, found {repository!r}; correct it")
    verify_folder(bundle)
    manifest = read_manifest(bundle)
    files = {n: sha for n, sha in manifest["files"].items() if not n.startswith(_LOCAL)}
    with tempfile.TemporaryDirectory(prefix="compress-export-") as temporary:
        bare = {} if with_texts else _without_texts(bundle, Path(temporary))
        files |= {name: sha256(path) for name, path in bare.items() if name in files}
        _upload(bundle, bare, manifest | {"files": files}, repository, message, private=private)


def _without_texts(bundle: Path, folder: Path) -> dict[str, Path]:
    """The files of a bundle's report, written again without the texts that it quotes."""
    file = bundle / "report.json"
    if not file.is_file():
        return {}
    report = read_report(file)
    if not report["disagreements"]:
        return {}
    note("validation texts that the report quotes are left out; --with-texts publishes them")
    write_report(report | {"disagreements": []}, read_recipe(bundle), folder)
    return {path.name: path for path in folder.iterdir()}


def _upload(
    bundle: Path,
    instead: Mapping[str, Path],
    manifest: dict[str, Any],
    repository: str,
    message: str,
    *,
    private: bool,
) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HFValidationError

    files: dict[str, str] = manifest["files"]
    text = json.dumps(manifest, indent=2) + "\n"
    api = HfApi(library_name="compress-export")
    try:
        created = api.create_repo(repository, private=private or None, exist_ok=True)
        adds = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=instead.get(name, bundle / name))
            for name in files
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
