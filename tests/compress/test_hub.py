"""Models are found on the Hub by id and revision."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compress.errors import CheckpointError
from compress.files.hub import is_hub_id, split_revision
from tests.families import tiny

COMMITS = ("a" * 40, "b" * 40)
LOADED = """
import json, sys
from compress import load
print(json.dumps([float(load(s).classifier.bias[0]) for s in sys.argv[1:]]))
"""


@pytest.mark.parametrize(
    ("source", "ours"),
    [
        ("name", True),
        ("org/name", True),
        ("org/name@v1.2", True),
        ("org/name@refs/pr/3", True),
        ("org/name@", False),
        ("./name", False),
        ("a/b/c", False),
        ("", False),
    ],
)
def test_an_id_is_told_from_a_path(source: str, ours: bool) -> None:
    assert is_hub_id(source) is ours


def test_a_folder_is_not_split(tmp_path: Path) -> None:
    folder = tmp_path / "model@2"
    folder.mkdir()
    assert split_revision(str(folder)) == (str(folder), "main")


def test_an_empty_revision_is_refused() -> None:
    from compress import load

    with pytest.raises(CheckpointError, match="revision after the @"):
        load("org/name@")


def test_a_revision_is_loaded(tmp_path: Path) -> None:
    """The download cache holds two commits: the id alone is the newest, the commit is the older."""
    repository = tmp_path / "hub" / "models--org--name"
    for i, commit in enumerate(COMMITS):
        model = tiny("bert", head="sequence")
        model.classifier.bias.data.fill_(float(i + 1))
        model.save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMITS[1])
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, "org/name", f"org/name@{COMMITS[0]}"],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout.splitlines()[-1]) == [2.0, 1.0]
