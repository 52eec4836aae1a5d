"""The central property: a pruned model equals the same model with those units masked out."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import PreTrainedModel

from compress.architectures import architecture_for
from compress.cost import encoder_parameters
from compress.errors import LayoutError, PlanError, UnsupportedArchitectureError
from compress.layout import bind
from compress.masking import masked
from compress.plan import LayerPlan, Plan
from compress.surgery import apply_
from tests.families import FAMILIES, keeping, logits, tiny, uneven

TOLERANCE = 1e-5


def difference(model: PreTrainedModel, plan: Plan) -> float:
    """Largest difference between the masked and the pruned model's logits."""
    with masked(bind(model), plan):
        expected = logits(model)
    pruned = copy.deepcopy(model)
    apply_(pruned, plan)
    assert bind(pruned).shape == plan.student_shape
    return float((logits(pruned) - expected).abs().max())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("heads", [0, 1, 3, 4])
def test_pruned_heads_match_masked_heads(family: str, heads: int) -> None:
    model = tiny(family)
    assert difference(model, keeping(bind(model).shape, 1, heads, None)) <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("neurons", [0, 1, 17, 40])
def test_pruned_neurons_match_masked_neurons(family: str, neurons: int) -> None:
    model = tiny(family)
    assert difference(model, keeping(bind(model).shape, 0, None, neurons)) <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_uneven_plan_matches_masks(family: str) -> None:
    model = tiny(family)
    assert difference(model, uneven(bind(model).shape)) <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_pruned_still_matches_masks(family: str) -> None:
    model = tiny(family)
    shape = bind(model).shape
    layers = tuple(LayerPlan(source=i, heads=(), neurons=()) for i in range(shape.n_layers))
    assert difference(model, Plan(shape=shape, layers=layers, depth=shape.depth)) <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_dropped_layers_match_skipped_layers(family: str) -> None:
    model = tiny(family)
    shape = bind(model).shape
    full = Plan.full(shape)
    if shape.groups:
        plan = Plan(shape=shape, layers=full.layers, depth=2)
    else:
        plan = Plan(shape=shape, layers=(full.layers[0], full.layers[2]), depth=2)
    assert difference(model, plan) <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_pruned_weights_are_physically_gone(family: str) -> None:
    model = tiny(family)
    plan = uneven(bind(model).shape)
    apply_(model, plan)
    layout = bind(model)
    real = sum(p.numel() for layer in layout.layers for p in layer.module.parameters())
    assert encoder_parameters(layout.shape) == real == encoder_parameters(plan.student_shape)


@pytest.mark.parametrize("family", FAMILIES)
def test_full_plan_changes_nothing(family: str) -> None:
    model = tiny(family)
    before = logits(model)
    apply_(model, Plan.full(bind(model).shape))
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_plans_in_turn_equal_their_composition(family: str) -> None:
    model = tiny(family)
    first = uneven(bind(model).shape)
    twice = copy.deepcopy(model)
    apply_(twice, first)
    second = keeping(bind(twice).shape, 0, 1, 3)
    apply_(twice, second)
    apply_(model, first.then(second))
    assert torch.equal(logits(model), logits(twice))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_parameter_belongs_to_a_slot_or_a_leftover(family: str) -> None:
    layout = bind(tiny(family))
    record = layout.architecture
    owned = [s.path for s in (*record.heads_in, record.heads_out, *record.ffn_in, record.ffn_out)]
    owned += record.leftovers
    for name, _ in layout.layers[0].module.named_parameters():
        assert sum(name.startswith(f"{path}.") for path in owned) == 1, name


def test_plan_of_another_model_is_refused() -> None:
    plan = Plan.full(bind(tiny("bert")).shape)
    with pytest.raises(PlanError, match="apply it to its own model"):
        apply_(tiny("bert", intermediate_size=48), plan)


def test_edited_config_fails_at_the_door() -> None:
    model = tiny("bert")
    model.config.num_attention_heads = 3
    with pytest.raises(LayoutError, match=r"layer 0: axis 1 of attention\.output\.dense"):
        bind(model)


def test_decoder_is_refused() -> None:
    with pytest.raises(LayoutError, match="is_decoder"):
        bind(tiny("bert", is_decoder=True))


def test_unknown_family_names_the_supported_ones() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="supported: albert, bert"):
        architecture_for("gpt2")
