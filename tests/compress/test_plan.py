"""Plans: JSON and back, costs, composition, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.errors import PlanError
from compress.model.binding import bind
from compress.plan.cost import CostModel, encoder_macs, encoder_parameters
from compress.plan.plan import EncoderShape, LayerPlan, Plan
from tests.families import FAMILIES, tiny, uneven


def shape_of(n_layers: int = 2, **overrides: int) -> EncoderShape:
    fields = {
        "model_type": "bert", "hidden_size": 8, "head_width": 4, "n_heads": (2,) * n_layers,
        "ffn_widths": (6,) * n_layers, "head_weights": 128, "head_biases": 12,
        "neuron_weights": 16, "neuron_biases": 1, "layer_parameters": (48,) * n_layers,
        "depth": n_layers,
    }  # fmt: skip
    return EncoderShape(**(fields | overrides))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_plan_survives_json(family: str) -> None:
    plan = uneven(bind(tiny(family)).shape)
    assert Plan.from_json(plan.to_json()) == plan


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_plan_survives_json_and_costs_what_its_student_costs(data: st.DataObject) -> None:
    shape = shape_of(3)
    kept = sorted(data.draw(st.sets(st.integers(0, 2), min_size=1)))
    layers = tuple(
        LayerPlan(
            source=i,
            heads=tuple(sorted(data.draw(st.sets(st.integers(0, 1))))),
            neurons=tuple(sorted(data.draw(st.sets(st.integers(0, 5))))),
        )
        for i in kept
    )
    plan = Plan(shape=shape, layers=layers, depth=len(layers))
    assert Plan.from_json(plan.to_json()) == plan
    heads, neurons = (sum(len(getattr(k, u)) for k in layers) for u in ("heads", "neurons"))
    expected = 10 * (heads * (128 + 2 * 10 * 4) + neurons * 16)
    assert encoder_macs(plan.student_shape, 10) == expected
    assert encoder_parameters(plan.student_shape) == heads * 140 + neurons * 17 + 48 * len(layers)


def test_macs_follow_the_formula_of_bert_base() -> None:
    shape = EncoderShape(
        model_type="bert", hidden_size=768, head_width=64, n_heads=(12,) * 12,
        ffn_widths=(3072,) * 12, head_weights=4 * 64 * 768, head_biases=192,
        neuron_weights=2 * 768, neuron_biases=1, layer_parameters=(4608,) * 12, depth=12,
    )  # fmt: skip
    n = 128
    head, neuron = 4 * n * 768 * 64 + 2 * n * n * 64, 2 * n * 768
    assert encoder_macs(shape, n) == 12 * (12 * head + 3072 * neuron)
    assert encoder_parameters(shape) == 85_054_464  # BertModel's encoder, as transformers counts


def test_shared_layers_cost_every_use() -> None:
    once, thrice = shape_of(1, groups=1, depth=1), shape_of(1, groups=1, depth=3)
    assert encoder_macs(thrice, 7) == 3 * encoder_macs(once, 7)
    assert encoder_parameters(thrice) == encoder_parameters(once)
    assert shape_of(4, groups=2, depth=5).applied == (0, 1, 0, 1, 0, 1, 2, 3, 2, 3)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((LayerPlan(source=0, heads=(1, 0), neurons=()),), "layer 0: kept heads must rise"),
        ((LayerPlan(source=0, heads=(0,), neurons=(6,)),), "layer 0: kept neurons must rise"),
        ((LayerPlan(source=2, heads=(), neurons=()),), "kept layers must rise within 0 to 1"),
        ((), "kept layers must rise"),
    ],
)
def test_impossible_plans_are_refused(layers: tuple[LayerPlan, ...], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan(shape=shape_of(), layers=layers, depth=len(layers))


def test_plan_files_of_another_kind_are_refused() -> None:
    good = Plan.full(shape_of()).to_dict()
    for bad in ("{", "[]", json.dumps(good | {"schema": 9}), json.dumps(good | {"layers": 3})):
        with pytest.raises(PlanError):
            Plan.from_json(bad)


def test_cost_of_one_unit_is_the_difference_it_makes() -> None:
    shape = bind(tiny("albert")).shape
    for unit in ("macs", "parameters"):
        cost = CostModel(unit=unit, sequence=9)  # type: ignore[arg-type]
        layers = list(Plan.full(shape).layers)
        layers[1] = LayerPlan(source=1, heads=(0, 1, 2), neurons=layers[1].neurons[1:])
        smaller = Plan(shape=shape, layers=tuple(layers), depth=shape.depth).student_shape
        assert cost.total(shape) - cost.total(smaller) == cost.head(shape, 1) + cost.neuron(
            shape, 1
        )
