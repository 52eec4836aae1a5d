"""Whatever is in a file, a loader reads it or refuses it in one line; it never crashes.

`FUZZ=10000 pytest tests/test_fuzz.py` does so many of each.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.report.card import read_base
from compress.checkpoint.checkpoint import load_config
from compress.checkpoint.stored_plan import stored_plan
from compress.errors import ToolchainError
from compress.files.folder import verify_folder, write_manifest
from compress.model.binding import bind
from compress.model.pooling import Pooling, read_pooling, write_pooling
from compress.plan.latency_table import LatencyTable
from compress.plan.plan import Plan
from compress_export.recipe import load_recipe
from compress_export.reports import read_report
from export.serving.reference import Reference
from tests.benchmarks.reports import made_up
from tests.compress.test_latency_table import TABLE
from tests.families import tiny, uneven

EXAMPLES = int(os.environ.get("FUZZ", "60"))
ODD = st.sampled_from(
    ["", "../../etc/passwd", "/etc/passwd", "\0", "~", "$(touch x)", "9" * 400, "NaN", "-1", "é"]
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.floats(), ODD,
    st.text(max_size=8),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def spoilt(draw: st.DrawFn, document: Any) -> Any:
    """A document with some of its values replaced, removed or added."""
    copied = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 3))):
        parent, place = None, copied
        while isinstance(place, dict | list) and place and draw(st.booleans() | st.just(True)):
            key = draw(
                st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
            )
            parent, place, last = place, place[key], key
            if draw(st.integers(0, 3)) == 0:
                break
        if parent is None:
            return draw(VALUES)
        match draw(st.integers(0, 3)):
            case 0:
                del parent[last]
            case 1 if isinstance(parent, dict):
                parent[draw(st.text(max_size=6))] = draw(VALUES)
            case _:
                parent[last] = draw(VALUES)
    return copied


def plan() -> Any:
    return uneven(bind(tiny("bert")).shape).to_dict()


def beside(folder: Path) -> None:
    """A folder with what some files need to have beside them."""
    folder.mkdir()
    write_pooling(Pooling(), 8, folder)
    (folder / "model.safetensors").touch()


RECIPE = {
    "model": "m", "task": {"train": "a.csv", "validation": "b.csv", "text": ["t"], "label": "l"},
    "target": {"device": "cpu", "batch": 8, "sequence": 64, "macs": 0.5},
    "prune": {"score": "fisher", "steps": 2, "units": ["heads"]}, "recover": {"epochs": 1},
    "export": {"variants": ["cpu-fp32"], "serving": ["triton"]},
    "benchmark": {"batches": [1], "sequences": [8]},
    "gate": {"retention": 0.9, "latency_ms": {"p95": 3}}, "seed": 0,
}  # fmt: skip
REFERENCE = {
    "texts": [["a"], ["a", "b"]], "ids": [[1, 2], [1, 2, 3]], "types": [[0, 0], [0, 0, 1]],
    "output": "logits", "reduce": "none", "normalise": False, "max_length": 8,
    "vectors": [[0.0, 1.0], [1.0, 0.0]], "graphs": {"cpu-int8": [[0.0, 1.0], [1.0, 0.0]]},
}  # fmt: skip
CARD = {"license": "mit", "language": ["en"], "datasets": ["glue"]}

Loader = Callable[[Path], object]
LOADERS: dict[str, tuple[str, Callable[[], Any], Loader]] = {
    "recipe": ("recipe.yaml", lambda: RECIPE, lambda p: load_recipe(p)),
    "plan": ("plan.json", plan, lambda p: Plan.load(p)),
    "manifest": (
        "manifest.json",
        lambda: {"schema": 1, "tool": "compress-export", "kind": "bundle",
                 "files": {"a.txt": "0" * 64}},
        lambda p: verify_folder(p.parent),
    ),
    "config": (
        "config.json",
        lambda: tiny("bert").config.to_dict() | {"compress_export": {"plan": plan()}},
        lambda p: stored_plan(load_config(p.parent)),
    ),
    "reference": ("reference.json", lambda: REFERENCE, lambda p: Reference.load(p)),
    "report": ("report.json", made_up, lambda p: read_report(p.parent)),
    "modules": (
        "modules.json",
        lambda: [{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}],
        lambda p: read_pooling(p.parent),
    ),
    "card": ("README.md", lambda: CARD, lambda p: read_base("m", p.parent)),
    "table": ("table.json", lambda: json.loads(TABLE.to_json()), lambda p: LatencyTable.load(p)),
}  # fmt: skip


def text_of(name: str, value: Any) -> str:
    if name == "card":
        return f"---\n{yaml.safe_dump(value)}---\n# A card\n"
    return json.dumps(value)


def attempt(load: Loader, path: Path) -> None:
    """Reads it or refuses it in one line, and touches nothing beside the file."""
    before = sorted(p.name for p in path.parent.parent.rglob("*"))
    with contextlib.suppress(ToolchainError):
        load(path)
    assert sorted(p.name for p in path.parent.parent.rglob("*")) == before


@pytest.mark.parametrize("name", LOADERS)
def test_a_spoilt_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    file, document, load = LOADERS[name]
    beside(tmp_path / "in")
    path = tmp_path / "in" / file

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(spoilt(document()))
    def run(value: Any) -> None:
        path.write_text(text_of(name, value), encoding="utf-8", errors="replace")
        attempt(load, path)

    run()


@pytest.mark.parametrize("name", LOADERS)
def test_bytes_that_are_no_such_file_are_refused(name: str, tmp_path: Path) -> None:
    file, document, load = LOADERS[name]
    beside(tmp_path / "in")
    path = tmp_path / "in" / file
    whole = text_of(name, document()).encode()

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(st.binary(max_size=40) | st.integers(0, len(whole)).map(lambda n: whole[:n]))
    def run(content: bytes) -> None:
        path.write_bytes(content)
        attempt(load, path)

    run()


def test_the_documents_that_are_spoilt_are_good_ones(tmp_path: Path) -> None:
    for name in set(LOADERS) - {"manifest"}:
        file, document, load = LOADERS[name]
        beside(tmp_path / name)
        (tmp_path / name / file).write_text(text_of(name, document()))
        load(tmp_path / name / file)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("x")
    write_manifest(tmp_path / "a", "bundle")
    verify_folder(tmp_path / "a")
