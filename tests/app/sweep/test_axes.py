"""From a sweep's file to its runs, and what makes two of them the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.errors import RecipeError
from compress_export.recipe import make_recipe
from compress_export.sweep.axes import combinations, load_file, load_sweep, set_field
from compress_export.sweep.identity import Hashes, run_key
from compress_export.sweep.search import Search

SWEEP = """
recipe: {data: glue, gate: {retention: 0.9}}
axes:
  teacher:
    - {name: a, model: teachers/a, task: sst2}
    - {model: teachers/b, task: mrpc}
  target.macs: [0.5, 0.7]
  seed: [0, 1]
exclude:
  - {teacher: a, target.macs: 0.7}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


def test_every_combination_that_is_not_excluded(tmp_path: Path) -> None:
    found = combinations(load_sweep(write(tmp_path, SWEEP)))
    assert [tuple(c.labels.values()) for c in found] == [
        ("a", 0.5, 0), ("a", 0.5, 1), ("b, mrpc", 0.5, 0), ("b, mrpc", 0.5, 1),
        ("b, mrpc", 0.7, 0), ("b, mrpc", 0.7, 1),
    ]  # fmt: skip
    assert found[-1].recipe == {
        "data": "glue", "gate": {"retention": 0.9}, "model": "teachers/b", "task": "mrpc",
        "target": {"macs": 0.7}, "seed": 1,
    }  # fmt: skip
    assert found[-1].slug == "b-mrpc-0.7-1"


def test_what_ships_is_valid() -> None:
    grid = combinations(load_sweep(Path("recipes/sweeps/grid.yaml")))
    assert len(grid) == 12
    assert all(make_recipe(combination.recipe) for combination in grid)
    search = load_file(Path("recipes/sweeps/search.yaml"), Search)
    assert set(search.search) == {
        "target.macs", "prune.score", "prune.calibration_examples",
    }  # fmt: skip


def test_setting_a_field_leaves_the_recipe_alone() -> None:
    recipe = {"target": {"batch": 8}}
    assert set_field(recipe, "target.macs", 0.5) == {"target": {"batch": 8, "macs": 0.5}}
    assert recipe == {"target": {"batch": 8}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("axes: {seed: [0, 0]}", "found 0 twice"),
        ("axes: {model: [{model: a/bert}, {model: b/bert}]}", "'bert' twice"),
        ("axes: {a: [{seed: 0}], b: [{name: x, seed: 1}, {name: y, seed: 1}]}", "found it twice"),
        ("axes: {seed: [0]}\nexclude: [{seed: 1}]", "values of seed are 0, found 1"),
        ("axes: {seed: [0]}\nexclude: [{seed: 0}]", "all are excluded"),
        ("axes: {seed: [0]}\nexclude: [{sed: 0}]", "axes are seed, found 'sed'"),
        ("axes: {seed: [0]}\nexclude: [{}]", "an empty rule"),
        ("axes: {seed: []}", "axes.seed"),
        ("axes: {}", "sweep field 'axes'"),
        ("recipe: {}", "'axes' is required"),
        ("axes: {seed: [0]}\nmodel: x", "'model' is unknown"),
        ("axes: {seed: [0]}\nresources: {train: {cpus: 1}}", "steps are prune"),
        ("axes: {seed: [0]}\nresources: {prune: {cpu: 1}}", "'resources.prune.cpu' is unknown"),
        ("axes: {seed: [0]}\nresources: {prune: {gpus: 2}}", "resources.prune.gpus"),
        ("axes: {seed: [0]}\nretries: -1", "'retries'"),
        ("axes: {target.macs: [0.5]}\nrecipe: {target: small}", "name the whole field 'target'"),
        ("- a", "must be a mapping"),
        ("axes: [", "must be YAML"),
    ],
)
def test_one_line_says_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(RecipeError) as error:
        combinations(load_sweep(write(tmp_path, text)))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_key_follows_content_not_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "config.json").write_text("{}")
        (tmp_path / name / "glue" / "SST-2").mkdir(parents=True)
        (tmp_path / name / "glue" / "SST-2" / "dev.tsv").write_text("x")
    recipe = {"model": "model", "data": "glue", "task": "sst2", "seed": 0}
    hashes = Hashes()

    def key(place: str, **changed: object) -> str:
        return run_key(recipe | changed, tmp_path / place, None, hashes)

    first = key("one")
    assert key("two") == first
    assert key("one", seed=1) != first
    assert run_key(recipe, tmp_path / "one", "a device", hashes) != first
    (tmp_path / "one" / "glue" / "MRPC").mkdir()
    (tmp_path / "one" / "glue" / "MRPC" / "dev.tsv").write_text("another task's")
    assert key("one") == first
    (tmp_path / "one" / "model" / "config.json").write_text('{"a": 1}')
    assert key("one") != first


def test_unchanged_files_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights"
    file.write_text("x")
    hashes = Hashes()
    first = hashes.of(file)
    monkeypatch.setattr("compress_export.sweep.identity.sha256", lambda _: "read again")
    assert Hashes(hashes.to_dict()).of(file) == first
    file.write_text("longer")
    assert hashes.of(file) == {".": "read again"}
