"""What makes two runs the same: files by their content, other fields by their word."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest

from compress_export.sweep import identity
from compress_export.sweep.identity import Hashes, run_key

RECIPE: dict[str, Any] = {
    "model": "teacher",
    "task": "sst2",
    "data": "glue",
    "prune": {"score": "fisher"},
    "target": {"macs": 0.5},
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in ("teacher/config.json", "glue/SST-2/train.tsv"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def key(base: Path, **changes: Any) -> str:
    return run_key(RECIPE | changes, base, None, Hashes())


def test_a_folder_named_like_the_task_or_the_score_changes_nothing(base: Path) -> None:
    before = key(base)
    for name in ("sst2", "fisher", "obs", "cpu"):
        (base / name).mkdir()
        (base / name / "owner").write_text("1234")
    assert key(base) == before
    assert key(base, prune={"score": "obs"}) != before


def test_what_files_hold_counts_and_not_where_they_lie(base: Path) -> None:
    before = key(base)
    (base / "teacher").rename(base / "elsewhere")
    assert key(base, model="elsewhere") == before
    (base / "elsewhere" / "config.json").write_text("other")
    assert key(base, model="elsewhere") != before


def test_where_and_how_it_is_computed_does_not_count(base: Path) -> None:
    one, two = ({"epochs": 1, "teacher_device": device} for device in (None, "cuda:1"))
    assert key(base, recover=one) == key(base, recover=two)
    assert key(base, recover=one) != key(base, recover=one | {"epochs": 2})


def test_other_content_under_the_same_url_is_another_run(base: Path) -> None:
    store = fsspec.filesystem("memory")
    keys = set()
    for text in ("one", "another", "another"):
        store.pipe_file("/identity/config.json", text.encode())
        identity._elsewhere.cache_clear()
        keys.add(key(base, model="memory://identity"))
    assert len(keys) >= 2


def test_another_revision_on_the_hub_is_another_run(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for sha in ("a" * 40, "b" * 40):
        info = SimpleNamespace(sha=sha)
        monkeypatch.setattr("huggingface_hub.model_info", lambda _, revision, info=info: info)
        identity._elsewhere.cache_clear()
        found.append(key(base, model="org/name"))
    assert found[0] != found[1]
