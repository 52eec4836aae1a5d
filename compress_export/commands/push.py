"""`push`: a bundle to a repository on the Hugging Face Hub, its card with it."""

from __future__ import annotations

from pathlib import Path

from compress.errors import RecipeError
from compress.folder import MANIFEST, read_manifest, verify_folder
from compress_export.console import out as console


def run(bundle: Path, repository: str, *, private: bool, message: str) -> None:
    """Check every file of a folder of ours, then upload all in one commit.

    Raises:
        RecipeError: The Hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    if repository.count("/") != 1:
        raise RecipeError(f"a repository must be OWNER/NAME, found {repository!r}; correct it")
    verify_folder(bundle)
    files = [name for name in read_manifest(bundle)["files"] if not name.startswith("stages/")]
    api = HfApi(library_name="compress-export")
    try:
        created = api.create_repo(repository, private=private or None, exist_ok=True)
        api.upload_folder(
            repo_id=created.repo_id,
            folder_path=bundle,
            commit_message=message,
            allow_patterns=[*files, MANIFEST],
        )
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
