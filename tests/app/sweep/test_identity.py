"""What makes two runs the same: files by their content, other fields by their word."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
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
    keys = []
    for text in ("one", "another", "another"):
        store.pipe_file("/identity/config.json", text.encode())
        identity._elsewhere.cache_clear()
        keys.append(key(base, model="memory://identity"))
    assert keys[0] != keys[1] == keys[2]


@pytest.mark.parametrize("header", [None, "ETag"])
def test_other_content_under_a_web_address_is_another_run(
    base: Path, tmp_path: Path, header: str | None
) -> None:
    served = [b""]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(served[0])))
            if header:
                self.send_header(header, served[0].decode())
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(served[0])

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    keys = []
    for content in (b"one", b"two", b"two"):
        served[0] = content
        identity._elsewhere.cache_clear()
        keys.append(key(base, model=f"http://127.0.0.1:{server.server_port}/model.bin"))
    server.shutdown()
    server.server_close()
    assert keys[0] != keys[1] == keys[2]


def test_a_sweep_that_is_offline_knows_the_commit_that_it_has(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr("huggingface_hub.model_info", lambda *_, **__: SimpleNamespace(sha="c0"))
    identity._elsewhere.cache_clear()
    online = key(base, model="org/name")
    monkeypatch.setattr("huggingface_hub.model_info", no_network)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: "cache/snapshots/c0")
    identity._elsewhere.cache_clear()
    assert key(base, model="org/name") == online


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
