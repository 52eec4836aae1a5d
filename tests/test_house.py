"""The house rules: imports point one way, exported names exist, the documents are true."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compress_export.cli import app

RANK = {"compress": 0, "export": 1, "benchmarks": 2, "compress_export": 3}
MODULES = sorted(p for package in RANK for p in Path(package).rglob("*.py"))


def imported(tree: ast.Module) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return [name.split(".")[0] for name in names]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_down_only(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = RANK[path.parts[0]]
    assert [n for n in imported(tree) if RANK.get(n, -1) > own] == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


def test_the_wheel_lists_every_package_by_name() -> None:
    listed = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    real = {".".join(p.parent.parts) for p in MODULES if p.name == "__init__.py"}
    assert set(listed) == real


@pytest.mark.parametrize("package", ["compress", "export", "benchmarks.tasks", "benchmarks.report"])
def test_exported_names_exist(package: str) -> None:
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_readme_names_only_commands_and_options_that_exist() -> None:
    text = Path("README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", text, flags=re.S)
    lines = " ".join(blocks).replace("\\\n", " ").splitlines()
    found = [line.split("#")[0].split() for line in lines if "compress-export " in line]
    assert found
    for words in found:
        verb = words[words.index("compress-export") + 1]
        if verb.startswith("-"):
            continue
        verbs = words[words.index(verb) :][: 2 if verb in ("study", "sweep") else 1]
        text = CliRunner().invoke(app, [*verbs, "--help"]).output
        for word in words:
            if word.startswith("--"):
                assert word in text, f"{verb} {word}"


def test_readme_python_blocks_parse() -> None:
    text = Path("README.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.S):
        compile(block, "README.md", "exec")


def test_report_schema_document_names_every_field() -> None:
    document = Path("benchmarks/report/SCHEMA.md").read_text(encoding="utf-8")
    source = Path("benchmarks/report/build.py").read_text(encoding="utf-8")
    body = source[source.index("_EMPTY:") :]
    body = body[: body.index("\n}\n")]
    fields = [*re.findall(r'^    "(\w+)":', body, flags=re.M), "title", "verdict", "anchor"]
    assert len(fields) > 20
    for field in fields:
        assert f"`{field}" in document, field
