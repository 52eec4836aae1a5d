"""`export --serve`, `verify` and `push` on the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from benchmarks.report.card import read_base
from compress_export.cli import app
from compress_export.exits import run_app
from export.serving.reference import REFERENCE
from tests.app.test_pipeline import write_csv
from tests.families import tiny
from tests.tokenizer import tiny_tokenizer


def cli(*arguments: object) -> int:
    return run_app(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher with a card of its own, data, and a bundle for two stacks."""
    folder = tmp_path_factory.mktemp("serving")
    tiny("bert").save_pretrained(folder / "teacher")
    tiny_tokenizer().save_pretrained(folder / "teacher")
    card = "---\nlicense: mit\nlanguage: en\nwidget: x\n---\n# Teacher\n"
    (folder / "teacher" / "README.md").write_text(card)
    for name in ("train.csv", "validation.csv"):
        write_csv(folder / name, 20)
    orders = ("--serve", "onnxruntime", "--serve", "tei")
    assert cli("export", folder / "teacher", "-o", folder / "bundle", *orders) == 0
    return folder


def front_matter(card: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(card.read_text().split("---\n")[1]))


def test_verify_loads_every_folder_and_fails_on_a_difference(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("verify", made / "bundle", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["verified"]
    assert {row["stack"] for row in rows} == {"onnxruntime", "tei"}
    assert all(row["agrees"] and row["latency_ms"] > 0 for row in rows)
    assert cli("verify", made / "bundle", "--target", "tei") == 0
    assert "tei" in capsys.readouterr().out
    wrong = tmp_path / "wrong"
    assert cli("export", made / "teacher", "-o", wrong, "--serve", "onnxruntime") == 0
    reference = json.loads((wrong / "serving" / REFERENCE).read_text())
    reference["vectors"][0][0] += 0.5
    (wrong / "serving" / REFERENCE).write_text(json.dumps(reference))
    assert cli("verify", wrong) == 2  # its manifest knows better
    manifest = json.loads((wrong / "manifest.json").read_text())
    del manifest["files"][f"serving/{REFERENCE}"]
    (wrong / "manifest.json").write_text(json.dumps(manifest))
    assert cli("verify", wrong) == 1
    assert "must be within" in capsys.readouterr().err


def test_an_edited_serving_file_fails_its_target_alone_unless_it_is_meant(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = shutil.copytree(made / "bundle", tmp_path / "bundle")
    for name in ("example.py", "tokenizer_config.json"):  # the other folder's is its own
        with (bundle / "serving" / "onnxruntime" / name).open("a") as file:
            file.write("\n")
    assert cli("verify", bundle, "--json") == 1
    told = capsys.readouterr()
    assert "example.py differs from its manifest" in told.err
    assert [row["stack"] for row in json.loads(told.out)["verified"]] == ["tei"]
    assert cli("verify", bundle, "--edited") == 0
    (bundle / "serving" / "onnxruntime" / "example.py").unlink()
    assert cli("verify", bundle, "--edited") == 1
    assert "example.py must exist" in capsys.readouterr().err
    assert cli("verify", bundle / "serving") == 2
    assert "name the bundle" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("verify", "bundle", "--target", "kubernetes"), "a serving stack must be one of"),
        (("verify", "bundle", "--target", "triton"), "must be a serving folder, found none"),
        (("verify", "bundle", "--python", "python3"), "--python goes with one --target"),
        (("verify", "nowhere"), "must be a folder that compress-export wrote, found none"),
        (("verify", "teacher"), "must hold a readable manifest.json"),
        (("export", "teacher", "-o", "x", "--serve", "tei@int8"), "must be served in one of fp32"),
        (("export", "teacher", "-o", "x", "--serve", "sentence-transformers"), "no sentence vec"),
        (("push", "bundle", "a/b/c"), "must be OWNER/NAME"),
        (("push", "bundle", "alone"), "must be OWNER/NAME"),
        (("push", "bundle", "a/b"), "check the network, or log in"),
        (("push", "teacher", "a/b"), "must hold a readable manifest.json"),
    ],
)
def test_wrong_orders_are_one_line_and_leave_nothing(
    made: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(made)
    assert cli(*arguments) == 2
    captured = capsys.readouterr().err
    assert message in captured
    assert captured.strip().splitlines()[-1].startswith("error: ")
    assert not Path("x").exists()


def test_what_cannot_be_verified_here_is_told_and_is_no_pass(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    orders = ("--serve", "onnxruntime", "--serve", "infinity")
    assert cli("export", made / "teacher", "-o", tmp_path / "two", *orders) == 0
    capsys.readouterr()
    assert cli("verify", tmp_path / "two", "--json") == 3
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert [row["stack"] for row in found["verified"]] == ["onnxruntime"]
    assert "not verified: infinity is verified with" in captured.err
    assert cli("verify", tmp_path / "two", "--target", "infinity") == 2


def test_the_card_carries_licence_and_language(made: Path, tmp_path: Path) -> None:
    front = front_matter(made / "bundle" / "README.md")
    assert (front["license"], front["language"]) == ("mit", "en")
    assert "widget" not in front
    assert "base_model" not in front  # a folder is no Hub id
    assert front["pipeline_tag"] == "text-classification"
    assert read_base("owner/name", made / "teacher").hub
    (tmp_path / "README.md").write_text("---\nlanguage: [en, no]\n---\n")
    assert read_base("x", tmp_path).carried == {"language": ["en", "no"]}  # Norwegian
    text = (made / "bundle" / "README.md").read_text()
    assert "`serving/tei/`" in text


def test_the_card_of_a_bundle_is_followed(made: Path) -> None:
    text = (made / "bundle" / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=made / "bundle",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "array" in done.stdout


def test_a_run_writes_serving_folders_and_a_card_with_figures(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    Path("recipe.yaml").write_text("""
model: teacher
task: {train: train.csv, validation: validation.csv, text: [sentence], label: label}
target: {macs: 0.6, sequence: 12, batch: 2}
prune: {score: magnitude, calibration_examples: 16, steps: 1, repair: false, round_to: 4}
export: {variants: [cpu-fp32], serving: [onnxruntime, tei, onnxruntime@int8]}
benchmark: {batches: [1], sequences: [8], rounds: 3, seconds: 0.1, openings: 1, max_length: 16}
""")
    assert cli("run", "recipe.yaml", "--out", "out") in (0, 3)
    report = json.loads(Path("out/report.json").read_text())
    assert {row["variant"] for row in report["latency"]} == {"cpu-fp32"}  # the others serve alone
    front = front_matter(Path("out/README.md"))
    (result,) = front["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == round(report["accuracy"][0]["student"], 4)
    assert "## What was removed" in Path("out/README.md").read_text()
    assert cli("verify", "out") == 0


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub's API as an upload needs."""

    seen: ClassVar[dict[str, Any]] = {}
    there: ClassVar[dict[str, bytes]] = {}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, here = self.path.partition("?")[0], f"http://{self.headers['Host']}"
        answer: dict[str, Any] = {"errors": [], "warnings": []}
        if path.endswith("/repos/create"):
            self.seen["created"] = json.loads(body)
            answer = {
                "url": f"http://{self.headers['Host']}/owner/name",
                "name": "owner/name",
                "id": "1",
            }
        elif "/preupload/" in path:
            files = [f["path"] for f in json.loads(body)["files"]]
            answer = {"files": [{"path": f, "uploadMode": "regular", "shouldIgnore": False}
                                for f in files]}  # fmt: skip
        elif "/commit/" in path:
            lines = [json.loads(line) for line in body.splitlines() if line.strip()]
            self.seen["files"] = [r["value"]["path"] for r in lines if r["key"] == "file"]
            self.seen["deleted"] = [r["value"]["path"] for r in lines if r["key"] == "deletedFile"]
            self.seen["message"] = lines[0]["value"]["summary"]
            answer = {"commitUrl": f"{here}/owner/name/commit/{'0' * 40}", "commitOid": "0" * 40,
                      "success": True, "hookOutput": ""}  # fmt: skip
        self._send(answer)

    def do_GET(self) -> None:
        path, _, name = self.path.partition("?")[0].partition("/resolve/main/")
        if name:
            self._send_bytes(self.there[name])
        elif "/tree/" in path:
            self._send([{"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                        for name, content in self.there.items()])  # fmt: skip
        else:
            self._send({"id": "owner/name", "siblings": [], "sha": "0" * 40})

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send(self, answer: Any) -> None:
        self._send_bytes(json.dumps(answer).encode())

    def _send_bytes(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"1"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.seen.clear()
    Hub.there.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def pushed(folder: Path, hub: str, cache: Path) -> None:
    variables = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    variables |= {"HF_ENDPOINT": hub, "HF_TOKEN": "hf_made_up", "HF_HUB_DISABLE_XET": "1",
                  "HF_HOME": str(cache)}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "compress_export", "push", str(folder), "owner/name",
         "--private", "--message", "First"],
        env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_bundle_is_pushed_in_one_commit_with_its_card(
    made: Path, hub: str, tmp_path: Path
) -> None:
    pushed(made / "bundle", hub, tmp_path)
    assert Hub.seen["created"]["name"] == "name"
    assert "private" in json.dumps(Hub.seen["created"])
    assert Hub.seen["message"] == "First"
    manifest = json.loads((made / "bundle" / "manifest.json").read_text())
    assert set(Hub.seen["files"]) == {"manifest.json", *manifest["files"]}
    assert not Hub.seen["deleted"]


def test_what_an_earlier_push_left_is_deleted_and_nothing_else(
    made: Path, hub: str, tmp_path: Path
) -> None:
    old = {"tool": "compress-export", "files": {"onnx/old/model.onnx": "0"}}
    Hub.there.update({"manifest.json": json.dumps(old).encode(), "onnx/old/model.onnx": b"x",
                      "my-notes.md": b"x"})  # fmt: skip
    pushed(made / "bundle", hub, tmp_path)
    assert Hub.seen["deleted"] == ["onnx/old/model.onnx"]
