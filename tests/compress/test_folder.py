"""Output folders: whole or absent, never over what is not ours or of another kind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from compress.errors import BundleError
from compress.files import folder as folder_module
from compress.files import places
from compress.files.folder import (
    MANIFEST,
    check_target,
    read_manifest,
    verify_folder,
    write_whole,
    writing,
)
from compress.files.places import locked, work_folder


def write(target: Path, kind: str, text: str) -> None:
    with writing(target, kind) as folder:
        (folder / "weights.txt").write_text(text)


def test_a_folder_of_the_same_kind_is_replaced_whole(tmp_path: Path) -> None:
    write(tmp_path / "x", "bundle", "old")
    write(tmp_path / "x", "bundle", "new")
    assert (tmp_path / "x" / "weights.txt").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    verify_folder(tmp_path / "x")


def test_an_output_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "x", "checkpoint", "precious")
    with pytest.raises(BundleError, match="an earlier bundle, found a checkpoint"):
        write(tmp_path / "x", "bundle", "new")
    assert (tmp_path / "x" / "weights.txt").read_text() == "precious"


def test_a_foreign_file_in_one_of_our_folders_is_named_and_kept(tmp_path: Path) -> None:
    write(tmp_path / "x", "bundle", "old")
    (tmp_path / "x" / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match=r"thesis\.txt, which compress-export did not write"):
        write(tmp_path / "x", "bundle", "new")
    assert (tmp_path / "x" / "thesis.txt").read_text() == "years of work"


def test_a_failure_leaves_the_old_folder_and_nothing_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "x", "bundle", "old")

    def half() -> None:
        with writing(tmp_path / "x", "bundle") as folder:
            (folder / "weights.txt").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert (tmp_path / "x" / "weights.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_files_are_readable_by_others(tmp_path: Path) -> None:
    with writing(tmp_path / "x", "bundle") as folder:
        (folder / "secret.bin").touch(mode=0o600)
    assert (tmp_path / "x" / "secret.bin").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("damage", ["edit", "delete"])
def test_damage_is_found_and_named(damage: str, tmp_path: Path) -> None:
    write(tmp_path / "x", "bundle", "whole")
    victim = tmp_path / "x" / "weights.txt"
    victim.unlink() if damage == "delete" else victim.write_text("edited")
    with pytest.raises(BundleError, match=r"weights\.txt"):
        verify_folder(tmp_path / "x")


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a file")
    with pytest.raises(BundleError, match="found the file"):
        check_target(tmp_path / "x", "bundle")


def test_the_manifest_tells_kind_versions_and_facts(tmp_path: Path) -> None:
    with writing(tmp_path / "x", "bundle", answer=42) as folder:
        (folder / "a.txt").touch()
    manifest = read_manifest(tmp_path / "x")
    assert (manifest["kind"], manifest["answer"]) == ("bundle", 42)
    assert list(manifest["files"]) == ["a.txt"]
    assert "torch" in manifest["versions"]


def test_what_was_put_there_meanwhile_stays_and_the_new_folder_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def write_slowly() -> None:
        with writing(target, "bundle") as new:
            (new / "a").write_text("new")
            target.mkdir()
            (target / "notes.txt").write_text("mine")

    with pytest.raises(BundleError, match="kept in") as raised:
        write_slowly()
    assert (target / "notes.txt").read_text() == "mine"
    assert (Path(str(raised.value).rpartition(" ")[2]) / "a").read_text() == "new"


def test_the_folder_that_one_stands_in_is_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in (Path(), Path("..")):
        with pytest.raises(BundleError, match="where the current folder lies"):
            check_target(place, "bundle")


def test_rights_are_the_users_own(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with writing(tmp_path / "out", "bundle") as new:
            (new / "a").write_text("new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "out" / "a").stat().st_mode) == 0o600


def test_an_edited_file_of_ours_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "x", "bundle", "old")
    (tmp_path / "x" / "weights.txt").write_text("tuned by hand")
    with pytest.raises(BundleError, match=r"weights\.txt, which was edited"):
        write(tmp_path / "x", "bundle", "new")
    assert (tmp_path / "x" / "weights.txt").read_text() == "tuned by hand"


def test_a_mount_point_is_written_within_and_its_manifest_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that something is mounted at can be filled, and not be renamed."""
    target = tmp_path / "volume"
    target.mkdir()
    order: list[str] = []
    replace = Path.replace

    def busy(self: Path, other: Path) -> Path:
        if target in (self, Path(other)):
            raise OSError(16, "Device or resource busy")
        order.append(Path(other).name)
        return replace(self, other)

    for module in (folder_module, places):
        monkeypatch.setattr(module, "is_mount", lambda path: path == target)
    monkeypatch.setattr(Path, "replace", busy)
    for text in ("old", "new"):
        order.clear()
        with writing(target, "bundle") as folder:
            assert folder.is_relative_to(target)
            assert not (text == "old" and (target / MANIFEST).exists())
            (folder / "weights.txt").write_text(text)
        assert order[-1] == MANIFEST
        assert (target / "weights.txt").read_text() == text
        verify_folder(target)
        assert sorted(p.name for p in target.iterdir()) == [MANIFEST, "weights.txt"]
    assert work_folder(target).is_relative_to(target)


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_mount_point_that_was_half_filled_is_filled_by_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    target = tmp_path / "volume"
    target.mkdir()
    for module in (folder_module, places):
        monkeypatch.setattr(module, "is_mount", lambda path: path == target)

    def write_two(text: str) -> None:
        with writing(target, "bundle") as folder:
            for name in ("one.txt", "two.txt"):
                (folder / name).write_text(text)

    write_two("old")
    replace, done = Path.replace, 0

    def full(self: Path, other: Path) -> Path:
        nonlocal done
        if Path(other).parent == target:
            if done == moves:
                raise OSError(28, "No space left on device", str(other))
            done += 1
        return replace(self, other)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(BundleError, match="No space left"):
            write_two("new")
    check_target(target, "bundle")
    assert {(target / name).read_text() for name in ("one.txt", "two.txt")} == {"new"}
    verify_folder(target)
    write_two("newer")
    verify_folder(target)


def test_what_cannot_be_renamed_is_kept_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(new: Path, target: Path) -> None:
        raise OSError(16, "Device or resource busy", str(target))

    monkeypatch.setattr(folder_module, "replace_folder", refuse)
    with pytest.raises(BundleError, match="what was written is kept in"):
        write(tmp_path / "x", "bundle", "hours of work")
    (kept,) = tmp_path.iterdir()
    assert (kept / "weights.txt").read_text() == "hours of work"


def test_two_processes_do_not_write_one_folder(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from compress.files.places import locked\n"
        "with locked(Path(sys.argv[1])): pass"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "x")]
    with locked(tmp_path / "x"), locked(tmp_path / "x"):
        other = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "is being written by another process" in other.stderr
    assert subprocess.run(command, check=False).returncode == 0


def test_a_file_that_many_write_at_once_is_always_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    texts = {letter * 5000 for letter in "abcdefgh"}
    write_whole(path, "a" * 5000)
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(write_whole, path, text) for text in texts for _ in range(50)]
        for _ in range(200):
            assert path.read_text() in texts
        for future in done:
            future.result()
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]


def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)
    with pytest.raises(BundleError, match="is not writable"):
        check_target(tmp_path / "a" / "b", "run")


def test_a_place_below_a_file_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BundleError, match="must lie in a folder, found the file"):
        check_target(tmp_path / "file" / "out", "checkpoint")
