"""URLs in the place of paths: read from, written to, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from compress.errors import BundleError, RecipeError
from compress_export.cli import app
from compress_export.exits import run_app
from compress_export.remote import _shown, fetch, localised, resolve
from tests.app.test_pipeline import write_csv
from tests.buckets import bucket
from tests.families import tiny
from tests.tokenizer import tiny_tokenizer


def cli(*arguments: object) -> int:
    return run_app(app, [str(a) for a in arguments])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[fsspec.AbstractFileSystem]:
    """A store in memory with a checkpoint and data."""
    fs = fsspec.filesystem("memory")
    model = tiny("bert")
    model.save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    for name, rows in (("train.csv", 20), ("validation.csv", 20)):
        write_csv(tmp_path / name, rows)
        fs.put_file(str(tmp_path / name), f"/data/{name}")
    fs.put(str(tmp_path / "teacher"), "/teacher", recursive=True)
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    fetch.cache_clear()


def test_a_checkpoint_is_read_from_a_store_and_its_bundle_written_there(
    store: fsspec.AbstractFileSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ("--variant", "portable", "--serve", "onnxruntime")
    assert cli("export", "memory://teacher", "-o", "memory://out/bundle", *wanted) == 0
    assert "sent to memory://out/bundle" in capsys.readouterr().err
    manifest = json.loads(store.cat_file("/out/bundle/manifest.json"))
    assert {n.removeprefix("/out/bundle/") for n in store.find("/out/bundle")} == {
        "manifest.json", *manifest["files"]
    }  # fmt: skip
    assert cli("verify", "memory://out/bundle", "--json") == 0
    fetch.cache_clear()
    store.pipe_file("/out/bundle/onnx/portable/config.json", b"{}")
    assert cli("verify", "memory://out/bundle") == 2
    assert "config.json differs from its manifest" in capsys.readouterr().err


def test_an_earlier_output_is_replaced_whole(store: fsspec.AbstractFileSystem) -> None:
    assert cli("export", "memory://teacher", "-o", "memory://x", "--variant", "portable") == 0
    assert cli("export", "memory://teacher", "--out=memory://x", "--variant", "cpu-fp32") == 0
    folders = {name.split("/")[3] for name in store.find("/x/onnx")}
    assert folders == {"cpu-fp32"}


def test_a_recipe_may_name_urls(
    store: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = """
model: memory://teacher
task: {train: "memory://data/train.csv", validation: "memory://data/validation.csv",
       text: [sentence], label: label}
target: {macs: 0.6, sequence: 12, batch: 2}
prune: {score: magnitude, calibration_examples: 16, steps: 1, repair: false, round_to: 4}
export: {variants: [cpu-fp32]}
benchmark: {batches: [1], sequences: [8], rounds: 3, seconds: 0.1, openings: 1, max_length: 16}
"""
    store.pipe_file("/recipes/recipe.yaml", recipe.encode())
    monkeypatch.chdir(tmp_path)
    assert cli("run", "memory://recipes/recipe.yaml", "--out", "memory://runs/one") in (0, 3)
    assert store.cat_file("/runs/one/recipe.yaml").decode() == recipe
    assert b'"kind": "run"' in store.cat_file("/runs/one/manifest.json")


def test_a_manifest_goes_last(
    store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    put = type(store).put_file

    def noted(self: object, local: str, remote: str, **settings: object) -> None:
        order.append(remote)
        put(self, local, remote, **settings)

    monkeypatch.setattr(type(store), "put_file", noted)
    assert cli("export", "memory://teacher", "-o", "memory://y", "--variant", "portable") == 0
    assert order[-1] == "/y/manifest.json"


def test_a_killed_upload_does_not_look_finished(
    store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert cli("export", "memory://teacher", "-o", "memory://y", "--variant", "portable") == 0

    put, sent = type(store).put_file, []

    def broken(*arguments: object, **settings: object) -> None:
        sent.append(arguments)
        if len(sent) == 2:
            raise OSError("connection reset")
        put(*arguments, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(type(store), "put_file", broken)
        assert cli("export", "memory://teacher", "-o", "memory://y", "--variant", "cpu-fp32") == 2
    assert "connection reset; check the URL" in capsys.readouterr().err
    assert not store.exists("/y/manifest.json")
    assert cli("verify", "memory://y") == 2
    assert "an upload did not end; write it again" in capsys.readouterr().err
    assert cli("export", "memory://teacher", "-o", "memory://y", "--variant", "cpu-fp32") == 0
    names = {name.removeprefix("/y/") for name in store.find("/y")}
    assert names == {"manifest.json", *json.loads(store.cat_file("/y/manifest.json"))["files"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inspect", "memory://nowhere"), "must exist, found nothing there"),
        (("inspect", "gopher://x/y"), "needs a file system that is not installed"),
        (("export", "memory://teacher", "-o", "memory://data"), "must be new, empty or written by"),
    ],
)
def test_wrong_urls_are_one_line(
    store: fsspec.AbstractFileSystem, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    assert cli(*arguments) == 2
    assert message in capsys.readouterr().err


def test_urls_are_found_within_a_contender(store: fsspec.AbstractFileSystem) -> None:
    with localised(["bench", "a=onnxruntime:memory://teacher@cpu-fp32", "x=y@z"]) as (found, _):
        name, _, rest = found[1].partition("=")
        runtime, _, path = rest.partition(":")
        assert (name, runtime, path.rpartition("@")[2]) == ("a", "onnxruntime", "cpu-fp32")
        assert (Path(path.rpartition("@")[0]) / "config.json").is_file()
        assert found[2] == "x=y@z"


def test_a_path_of_a_recipe_is_a_path_or_a_url(
    store: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    assert resolve(tmp_path, Path("a/b.csv")) == tmp_path / "a" / "b.csv"
    assert resolve(tmp_path, Path("memory://data/train.csv")).read_text().startswith("sentence")
    with pytest.raises(RecipeError, match="must exist"):
        resolve(tmp_path, Path("memory://data/none.csv"))


def test_a_bundle_goes_to_s3_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny("bert").save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    wanted = ("--variant", "cpu-fp32", "--serve", "onnxruntime")
    try:
        with bucket("bucket", monkeypatch) as url:
            assert cli("export", tmp_path / "teacher", "-o", f"{url}/a/b", *wanted) == 0
            assert cli("verify", f"{url}/a/b") == 0
            assert cli("inspect", f"{url}/none") == 2
        assert "must exist, found nothing there" in capsys.readouterr().err
    finally:
        fetch.cache_clear()


def test_a_store_cannot_write_outside_the_copy(
    store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(store), "find", lambda *_, **__: ["/teacher/../../evil"])
    with pytest.raises(BundleError, match="files of its own alone"):
        fetch("memory://teacher")


@pytest.mark.parametrize("name", ["bundle@v1", "my bundle"])
def test_a_url_is_taken_whole(store: fsspec.AbstractFileSystem, name: str) -> None:
    url = f"memory://out/{name}"
    assert cli("export", "memory://teacher", "-o", url, "--variant", "cpu-fp32") == 0
    assert store.exists(f"/out/{name}/manifest.json")
    shape = ("--batch", "1", "--sequence", "8", "--rounds", "3", "--openings", "1")
    assert cli("bench", f"a={url}@cpu-fp32", *shape) in (0, 3)


def test_a_folder_of_another_kind_and_the_model_itself_are_not_replaced(
    store: fsspec.AbstractFileSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    pruned = ("--texts", "memory://data/train.csv", "--macs", "0.6", "--score", "magnitude",
              "--sequence", "12", "--max-length", "16")  # fmt: skip
    assert cli("prune", "memory://teacher", *pruned, "-o", "memory://s") == 0
    before = {name: store.cat_file(name) for name in store.find("/s")}
    assert cli("export", "memory://s", "-o", "memory://s", "--variant", "portable") == 2
    assert "output must not replace an input" in capsys.readouterr().err
    assert cli("export", "memory://teacher", "-o", "memory://s", "--variant", "portable") == 2
    assert "found a checkpoint" in capsys.readouterr().err
    assert {name: store.cat_file(name) for name in store.find("/s")} == before


def test_a_summary_under_a_url_is_written_on(store: fsspec.AbstractFileSystem) -> None:
    store.pipe_file("/job/summary.md", b"# Before\n")
    with localised(["report", "x", "--summary", "memory://job/summary.md"]) as (local, sent):
        with Path(local[-1]).open("a") as file:
            file.write("after\n")
        sent.send()
    assert store.cat_file("/job/summary.md") == b"# Before\nafter\n"


def test_a_dry_run_sends_nothing(
    store: fsspec.AbstractFileSystem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("""
model: memory://teacher
task: {train: "memory://data/train.csv", validation: "memory://data/validation.csv",
       text: [sentence], label: label}
target: {macs: 0.6, sequence: 12, batch: 2}
prune: {score: magnitude, calibration_examples: 16}
benchmark: {batches: [1], sequences: [8], max_length: 16}
""")
    assert cli("run", recipe, "--dry-run", "--out", "memory://runs/none") == 0
    assert "sent to" not in capsys.readouterr().err
    assert not store.exists("/runs/none")


def test_a_password_in_a_url_is_not_shown(
    store: fsspec.AbstractFileSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("inspect", "memory://key:secret@nowhere/x") == 2
    assert "memory://***@nowhere/x must exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://me:secret@bucket/x", "s3://***@bucket/x"),
        ("https://host/x?token=secret&v=1", "https://host/x?token=***&v=***"),
        ("no access to https://host/x?sig=secret now", "no access to https://host/x?sig=*** now"),
    ],
)
def test_secrets_of_a_url_are_not_shown(url: str, shown: str) -> None:
    assert _shown(url) == shown


def test_a_rule_that_names_a_url_fetches_nothing() -> None:
    arguments = ["sweep", "best", "out", "--where", "model=s3://nowhere/x"]
    with localised(arguments) as (found, _):
        assert found[-1] == "model=s3://nowhere/x"
