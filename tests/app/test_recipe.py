"""Recipes: every shipped one parses, and what is wrong is named with its remedy."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.errors import RecipeError
from compress.saliency.scorers import GradientScore
from compress_export.recipe import Recipe, load_recipe, parse_recipe

RECIPES = sorted(Path("recipes").glob("*.yaml"))
BASE = "model: m\ntask: sst2\n"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_every_shipped_recipe_parses(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.share() <= 1
    assert recipe.variants()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: sst2", "'model' is required"),
        (BASE + '"[": 1', r"'\[' is unknown"),
        (BASE + "trget: {}", r"'trget' is unknown; did you mean 'target'\?"),
        (BASE + "prune: {step: 3}", r"'prune\.step' is unknown; did you mean 'steps'\?"),
        (BASE + "target: {macs: 0}", r"'target\.macs'.*greater than 0, found 0"),
        (BASE + "target: {macs: 1.5}", r"'target\.macs'.*found 1\.5"),
        (BASE + "target: {macs: half}", r"'target\.macs'.*found 'half'"),
        (BASE + "target: {macs: 0.5, parameters: 0.5}", "not both"),
        (BASE + "target: {device: tpu}", r"'target\.device'.*found 'tpu'"),
        (BASE + "prune: {score: magic}", r"'prune\.score'.*fisher.*found 'magic'"),
        (BASE + "prune: {score: random, power: 1}", "power goes with score fisher or michel"),
        (BASE + "export: {variants: [int4]}", r"'export\.variants\.0'.*found 'int4'"),
        (BASE + "gate: {latency_ms: {p42: 3}}", r"'gate\.latency_ms\.p42' is unknown"),
        ("model: m\ntask: sst-2", r"task must be among .*; did you mean 'sst2'\?"),
        ("model: m\ntask: {train: a.csv}", r"'task\.validation' is required"),
        ("model: m\ntask: {train: a, validation: b, text: [t], lable: y}", "lable"),
        (
            BASE + "export: {variants: [portable]}\ngate: {retention: 0.9}",
            "gates look at the variant",
        ),
        (BASE + "target: {speedup: 1}", r"'target\.speedup'.*greater than 1, found 1"),
        (BASE + "target: {speedup: 2, latency_ms: 3}", "give speedup or latency_ms, not both"),
        (BASE + "target: {macs: 0.5, mix: data}", "mix goes with speedup or latency_ms"),
        (BASE + "target: {speedup: 2, precision: [fp16]}", "'fp16' does not run on cpu"),
        (BASE + "prune: {score: kprune, layout: uniform}", "prune.layout: 'uniform' needs"),
        (
            BASE + "prune: {score: fisher, units: [layers]}",
            "prune.units: 'layers' needs score",
        ),
        (BASE + "prune: {layout: uniform, trials: 3}", "prune.trials: .*found 3"),
        (
            BASE + "prune: {score: kprune, trials: 3}",
            "prune.trials: .*found 3",
        ),
        (
            BASE + "prune: {score: kprune, units: [layers]}",
            "prune.units: 'layers' needs score",
        ),
        (BASE + "target: {speedup: .inf}", "finite"),
        (BASE + "target: {speedup: 2, force_table: true}", "force_table goes with table"),
        (BASE + "target: {speedup: 2, mix: data}\ngate: {speedup: 2}", "looks at one workload"),
        (BASE + "prune: {labels: given}", "labels goes with score fisher or michel, found obs"),
        (
            BASE + "target: {speedup: 2}\nexport: {variants: [portable]}",
            "targets and gates look at the variant 'cpu-fp32'",
        ),
        (
            BASE + "target: {speedup: 2, mix: [{batch: 1, wieght: 3}]}",
            r"'target\.mix\.0\.wieght' is unknown; did you mean 'weight'",
        ),
        (
            BASE + "target: {speedup: 2, mix: [{batch: 1, sequence: 8}, {batch: 1, sequence: 8}]}",
            "mix must name each workload once",
        ),
        (BASE + "target: {macs: 0.5, precision: [int8]}", "precision goes with speedup"),
        ("- a list", "must be a mapping"),
        ("model: [", "must be YAML"),
    ],
)
def test_wrong_recipes_name_the_field_the_value_and_the_remedy(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        parse_recipe(text)
    assert "\n" not in str(caught.value)


def test_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing\.yaml"):
        load_recipe(tmp_path / "nothing.yaml")


def test_options_of_a_gradient_score_replace_its_defaults() -> None:
    recipe = parse_recipe(BASE + "prune: {score: michel, labels: sampled, layer_norm: false}")
    score = recipe.prune_spec().score
    assert score == GradientScore(
        name="michel", reduction="token", power=1, labels="sampled", layer_norm=False
    )
    assert parse_recipe(BASE + "prune: {score: fisher}").prune_spec().score == "fisher"


def test_default_variants_follow_the_device() -> None:
    cpu, cuda = (parse_recipe(BASE + f"target: {{device: {d}}}") for d in ("cpu", "cuda"))
    assert [v.name for v in cpu.variants()] == ["portable", "cpu-fp32", "cpu-int8"]
    assert [v.name for v in cuda.variants()] == ["portable", "cuda-fp32", "cuda-fp16"]


def test_the_method_follows_layout_and_depth() -> None:
    for more, method in (
        ("", "obs"),
        ("prune: {layout: uniform}", "fisher"),
        ("prune: {drop_layers: 1}", "fisher"),
        ("prune: {score: random}", "random"),
    ):
        assert parse_recipe(BASE + more).prune.method == method


def test_a_measured_target_is_a_gate() -> None:
    assert parse_recipe(BASE + "target: {speedup: 2}").promises()["speedup"] == 2
    limits = parse_recipe(BASE + "target: {latency_ms: 5}").promises()["latency_ms"]
    assert limits["p50"] == 5
    mixed = "target: {speedup: 2, mix: [{batch: 1, sequence: 8}, {batch: 1, sequence: 16}]}"
    assert parse_recipe(BASE + mixed).promises()["speedup"] is None


def test_single_figures_are_about_the_heaviest_workload_of_a_mix() -> None:
    mix = "[{batch: 1, sequence: 8}, {batch: 2, sequence: 16, weight: 3}]"
    found = parse_recipe(BASE + f"target: {{speedup: 2, mix: {mix}}}").promised()
    assert (found.batch, found.sequence) == (2, 16)


@pytest.mark.parametrize(("gate", "stricter"), [(1.5, 2), (2.5, 2.5)])
def test_the_stricter_of_gate_and_target_holds(gate: float, stricter: float) -> None:
    text = f"target: {{speedup: 2}}\ngate: {{speedup: {gate}}}"
    assert parse_recipe(BASE + text).promises()["speedup"] == stricter


def test_one_text_column_may_be_written_without_a_list() -> None:
    task = "task: {train: a.csv, validation: b.csv, text: review, label: stars}"
    resolved = parse_recipe(f"model: m\n{task}").resolve_task(Path("/base"))
    assert resolved.text == ("review",)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=8), lambda inner:
       st.lists(inner, max_size=3) | st.dictionaries(
           st.sampled_from([*Recipe.model_fields, "macs", "steps", "train", "x"]), inner,
           max_size=4)))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_data_is_a_recipe_or_a_recipe_error(data: object) -> None:
    with contextlib.suppress(RecipeError):
        parse_recipe(yaml.safe_dump(data))


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(RecipeError, match="key 'gate' stands twice, in lines 3 and 4"):
        parse_recipe("model: a\ntask: sst2\ngate: {retention: 0.99}\ngate: {retention: 0.1}\n")
