"""The built wheel, with the source tree out of sight: four packages, their data files, no tests."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGES = ("compress", "export", "benchmarks", "compress_export")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder), "."]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return next(folder.glob("*.whl"))


def test_wheel_holds_the_packages_and_their_templates_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == set(PACKAGES)
    for needed in ("report.html.jinja", "report.md.jinja", "report.css"):
        assert f"benchmarks/report/{needed}" in names


def test_every_import_resolves_to_the_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
               "--target", str(site), str(wheel)]  # fmt: skip
    assert subprocess.run(install, capture_output=True, check=False).returncode == 0
    code = (
        "import importlib, sys; sys.path.insert(0, sys.argv[1])\n"
        f"for name in {PACKAGES}:\n"
        "    assert importlib.import_module(name).__file__.startswith(sys.argv[1]), name\n"
        "import compress_export.pipeline"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(site)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_module_runs_no_file_of_the_folder_that_it_is_called_in(tmp_path: Path) -> None:
    (tmp_path / "export.py").write_text("raise SystemExit(1)\n")
    done = subprocess.run(
        [sys.executable, "-m", "compress_export", "families"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
