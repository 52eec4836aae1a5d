"""A store that machines share: what is pushed is what is pulled, or nothing is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.errors import RecipeError
from compress_export.remote import StoreError
from compress_export.stages import file_hashes
from compress_export.sweep.store import Store
from compress_export.sweep.work import _is_there
from tests.buckets import bucket


def folder(place: Path, **files: str) -> Path:
    for name, text in files.items():
        path = place / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return place


@pytest.mark.parametrize("url", ["{}/store", "memory://{}"])
def test_a_folder_comes_back_as_it_was(url: str, tmp_path: Path) -> None:
    store = Store(url.format(tmp_path))
    first = folder(tmp_path / "first", a="1", sub__b="2", sub__c="3")
    store.push(first, "key", whole=False)
    assert not store.has("key")
    (first / "sub" / "b").unlink()
    folder(first, a="changed", d="4")
    store.push(first, "key", whole=True)
    assert store.has("key")
    assert store.pull("key", tmp_path / "second")
    assert file_hashes([tmp_path / "second"], tmp_path / "second") == file_hashes([first], first)
    folder(tmp_path / "second", stale="x")
    assert store.pull("key", tmp_path / "second")
    assert not (tmp_path / "second" / "stale").exists()
    store.drop("key")
    assert not store.pull("key", tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_what_is_finished_is_not_written_over(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    store.push(folder(tmp_path / "whole", report="done"), "key", whole=True)
    store.push(folder(tmp_path / "part", other="begun"), "key", whole=False)
    assert store.has("key")
    assert store.pull("key", tmp_path / "found")
    assert [p.name for p in (tmp_path / "found").iterdir()] == ["report"]


def test_two_that_finish_one_run_at_once_do_not_mix_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Store(str(tmp_path / "store")), Store(str(tmp_path / "store"))
    write = one._write_index

    def late(key: str, index: dict[str, Any]) -> None:
        two.push(folder(tmp_path / "two", a="2", report="two"), "key", whole=True)
        write(key, index)

    monkeypatch.setattr(one, "_write_index", late)
    one.push(folder(tmp_path / "one", a="1", report="one"), "key", whole=True)
    assert one.pull("key", tmp_path / "found")
    assert {p.read_text() for p in (tmp_path / "found").iterdir()} == {"1", "one"}


def test_a_torn_run_is_finished_anew(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    store.push(folder(tmp_path / "one", a="1"), "key", whole=True)
    next((tmp_path / "store" / "key").rglob("a")).write_text("2")
    assert not _is_there(store, "key", tmp_path / "found")
    assert not store.has("key")
    store.push(folder(tmp_path / "one", a="1"), "key", whole=True)
    assert _is_there(store, "key", tmp_path / "found")


def test_torn_and_foreign_files_are_not_taken(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    store.push(folder(tmp_path / "one", a="1"), "key", whole=True)
    there = tmp_path / "store" / "key"
    next(there.rglob("a")).write_text("2")
    with pytest.raises(StoreError, match="must be what its index says"):
        store.pull("key", tmp_path / "found")
    assert not (tmp_path / "found").exists()
    (there / "index.json").write_text(json.dumps({"files": {"../../x": "0"}, "whole": True}))
    with pytest.raises(StoreError, match="files of its own alone"):
        store.pull("key", tmp_path / "found")
    (there / "index.json").write_text('{"files": {"a"')
    assert not store.has("key")


def test_a_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nosuch://x"):
        Store("nosuch://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        Store(str(tmp_path / "file" / "below"))


def test_a_bucket_is_a_store_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bucket("fleet", monkeypatch) as url:
        store = Store(f"{url}/runs")
        whole = folder(tmp_path / "whole", report="done", sub__graph="nodes")
        store.push(whole, "part", whole=False)
        assert not store.has("part")
        store.push(whole, "key", whole=True)
        store.drop("part")
        again = Store(f"{url}/runs")
        assert again.has("key")
        assert again.pull("key", tmp_path / "found")
        found = file_hashes([tmp_path / "found"], tmp_path / "found")
        assert found == file_hashes([whole], whole)
        assert not again.pull("part", tmp_path / "none")
