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


ROOMS = {
    "compress": [
        "architectures",
        "files",
        "plan",
        "model",
        "checkpoint",
        "saliency",
        "search",
        "repair",
        "pruner",
        "streamed",
        "training",
        "distillation",
        "learned",
        ".",
    ],
    "export": ["graph", "precision", ".", "serving"],
}
"""Rooms from the bottom up: each imports from those before it alone. A dot: the package itself."""
OPEN_TO_ALL = ("errors", "lazy", "validation")
"""Modules of a package that every room may import."""
MOST_MODULES, MOST_AT_THE_ROOT = 12, 4


def room_of(name: str) -> str | None:
    """The room of a module by its dotted name; None for what every room needs."""
    package, *inside = name.split(".")
    if not inside or inside[0] in OPEN_TO_ALL:
        return None
    return inside[0] if Path(package, inside[0]).is_dir() else "."


@pytest.mark.parametrize("path", [p for p in MODULES if p.parts[0] in ROOMS], ids=str)
def test_rooms_import_those_below_them_alone(path: Path) -> None:
    package, order = path.parts[0], ROOMS[path.parts[0]]
    own = room_of(".".join(path.with_suffix("").parts))
    if path.name == "__init__.py" and len(path.parts) == 2:
        return  # the public face
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    rooms = {room_of(name) for name in modules if name.split(".")[0] == package} - {None, own}
    if own is None:
        assert rooms == set()
    else:
        assert [room for room in rooms if order.index(room) > order.index(own)] == []


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_are_small_and_all_known(package: str) -> None:
    folders = {p.parent for p in MODULES if p.parts[0] == package}
    assert {f.parts[1] for f in folders if len(f.parts) > 1} == set(ROOMS[package]) - {"."}
    for folder in folders:
        modules = {p.stem for p in folder.glob("*.py")} - {"__init__"}
        if folder == Path(package):
            assert len(modules - set(OPEN_TO_ALL)) <= MOST_AT_THE_ROOT
        assert len(modules) <= MOST_MODULES, folder


FLAG_OR_FIELD = re.compile(
    r"(?<![\w-])--[a-z][a-z-]+"
    r"|\b(?:target|prune|recover|export|benchmark|gate|task)\.[a-z_]+\b(?!\()"
)


@pytest.mark.parametrize("path", [p for p in MODULES if p.parts[0] in ROOMS], ids=str)
def test_messages_of_a_library_name_no_flag_and_no_recipe_field(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and node.exc is not None:
            words = [c.value for c in ast.walk(node.exc) if isinstance(c, ast.Constant)]
            text = " ".join(word for word in words if isinstance(word, str))
            assert FLAG_OR_FIELD.search(text) is None, text


REPLACED = frozenset(
    [
        "described_",
        "sayable_attributes",
        "settle_",
        "tapped",
        "Tap",
        "harm",
        "harms",
        "Aims",
        "Rank",
        "Lesson",
        "Teaching",
        "Heard",
        "Read",
        "hear",
        "listen",
        "remember",
        "Knowledge",
        "StoreFacts",
        "Store",
        "Kept",
        "knowledge_ranking",
        "queries",
        "Walk",
        "FamilySpec",
        "Member",
        "RankingName",
        "multiple",
        "knowledge",
        "places",
        "lesson",
        "teaching",
        "heard",
        "Order",
        "parse_order",
        "Curve",
        "rate",
    ]
)
"""Names that the glossary replaced by the field's own words."""


@pytest.mark.parametrize("path", [p for p in MODULES if p.parts[0] in ROOMS], ids=str)
def test_names_that_were_replaced_do_not_come_back(path: Path) -> None:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.alias):
            found.add(node.name)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    assert found & REPLACED == set()


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
