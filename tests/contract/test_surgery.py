"""The central property: a pruned model equals the same model with those units masked out."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from compress.architectures import ARCHITECTURES, architecture_for
from compress.errors import LayoutError, PlanError, UnsupportedArchitectureError
from compress.model.binding import bind
from compress.model.masking import masked
from compress.model.surgery import apply_
from compress.plan.cost import encoder_parameters
from compress.plan.plan import EncoderShape, LayerPlan, Plan
from tests.families import (
    FAMILIES,
    VARIANTS,
    batch,
    every_head,
    hidden,
    keeping,
    logits,
    outputs,
    plan_of,
    tiny,
    uneven,
)

TOLERANCE = 1e-5
EVERY = (*FAMILIES, *VARIANTS)


def difference(model: PreTrainedModel, plan: Plan) -> float:
    """Largest difference between the masked and the pruned model, in hidden states and outputs."""
    with masked(bind(model), plan):
        expected = {"hidden": hidden(model), **outputs(model)}
    pruned = copy.deepcopy(model)
    apply_(pruned, plan)
    assert bind(pruned).shape.fits(plan.student_shape)
    found = {"hidden": hidden(pruned), **outputs(pruned)}
    return max(float((found[name] - value).abs().max()) for name, value in expected.items())


def nothing_left(shape: EncoderShape) -> Plan:
    layers = tuple(LayerPlan(source=i, heads=(), neurons=()) for i in range(shape.n_layers))
    return Plan(shape=shape, layers=layers, depth=shape.depth)


def subsets(shape: EncoderShape) -> list[Plan]:
    """Every non-empty subset of the layers that can be kept; fewer uses where they are shared."""
    if shape.groups:
        every = range(shape.n_layers)
        return [plan_of(shape, *every, depth=n) for n in range(shape.groups, shape.depth)]
    kept = [
        keep
        for n in range(1, shape.n_layers)
        for keep in itertools.combinations(range(shape.n_layers), n)
    ]
    return [plan_of(shape, *keep) for keep in kept if 0 in keep or not shape.first_pinned]


def test_the_table_has_a_row_for_every_record() -> None:
    assert {a.model_type for a in ARCHITECTURES} == set(FAMILIES)


@pytest.mark.parametrize("family", EVERY)
def test_pruned_heads_match_masked_heads(family: str) -> None:
    model = tiny(family)
    for heads in (0, 1, 3, 4):
        assert difference(model, keeping(bind(model).shape, 1, heads, None)) <= TOLERANCE


@pytest.mark.parametrize("family", EVERY)
def test_pruned_neurons_match_masked_neurons(family: str) -> None:
    model = tiny(family)
    for neurons in (0, 1, 17, 40):
        assert difference(model, keeping(bind(model).shape, 0, None, neurons)) <= TOLERANCE


@pytest.mark.parametrize("family", EVERY)
def test_uneven_plan_matches_masks_and_changes_the_output(family: str) -> None:
    model = tiny(family)
    plan = uneven(bind(model).shape)
    assert difference(model, plan) <= TOLERANCE
    with masked(bind(model), plan):
        assert float((hidden(model) - hidden(tiny(family))).abs().max()) > 1e-2


@pytest.mark.parametrize("family", EVERY)
def test_removed_sublayers_match_masks(family: str) -> None:
    model = tiny(family)
    shape = bind(model).shape
    for plan in (keeping(shape, 0, 0, 0), keeping(shape, 1, 0, 0), nothing_left(shape)):
        assert difference(model, plan) <= TOLERANCE


@pytest.mark.parametrize("family", EVERY)
def test_dropped_layers_match_skipped_layers(family: str) -> None:
    model = tiny(family)
    for plan in subsets(bind(model).shape):
        assert difference(model, plan) <= TOLERANCE


@pytest.mark.parametrize(("family", "head"), every_head())
def test_every_model_head_keeps_its_outputs(family: str, head: str) -> None:
    model = tiny(family, head=head)
    assert difference(model, uneven(bind(model).shape)) <= TOLERANCE


@pytest.mark.parametrize("family", EVERY)
def test_pruned_weights_are_physically_gone(family: str) -> None:
    model = tiny(family)
    plan = uneven(bind(model).shape)
    apply_(model, plan)
    layout = bind(model)
    real = sum(p.numel() for layer in layout.layers for p in layer.module.parameters())
    assert encoder_parameters(layout.shape) == real == encoder_parameters(plan.student_shape)


@pytest.mark.parametrize("family", EVERY)
def test_full_plan_changes_nothing(family: str) -> None:
    model = tiny(family)
    before = hidden(model)
    apply_(model, Plan.full(bind(model).shape))
    assert torch.equal(hidden(model), before)


@pytest.mark.parametrize("family", EVERY)
def test_two_plans_in_turn_equal_their_composition(family: str) -> None:
    model = tiny(family)
    first = uneven(bind(model).shape)
    twice = copy.deepcopy(model)
    apply_(twice, first)
    second = keeping(bind(twice).shape, 0, 1, 3)
    apply_(twice, second)
    apply_(model, first.then(second))
    assert torch.equal(hidden(model), hidden(twice))


@pytest.mark.parametrize("family", EVERY)
def test_plan_survives_json(family: str) -> None:
    plan = uneven(bind(tiny(family)).shape)
    assert Plan.from_json(plan.to_json()) == plan


MODELS: dict[str, PreTrainedModel] = {}


@st.composite
def plans(draw: st.DrawFn) -> tuple[PreTrainedModel, Plan]:
    """A family and any plan for it."""
    family = draw(st.sampled_from(EVERY))
    model = MODELS.setdefault(family, tiny(family))
    shape = bind(model).shape
    sources = list(range(shape.n_layers))
    if not shape.groups:
        first = {0} if shape.first_pinned else set()
        sources = sorted(draw(st.sets(st.sampled_from(sources), min_size=1)) | first)
    layers = tuple(
        LayerPlan(
            source=source,
            heads=_subset(draw, shape.n_heads[source]),
            neurons=_subset(draw, shape.ffn_widths[source]),
        )
        for source in sources
    )
    depth = draw(st.integers(shape.groups, shape.depth)) if shape.groups else len(layers)
    return model, Plan(shape=shape, layers=layers, depth=depth)


def _subset(draw: st.DrawFn, count: int) -> tuple[int, ...]:
    return tuple(sorted(draw(st.sets(st.integers(0, count - 1)))))


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(plans())
def test_any_plan_of_any_family_matches_masks(case: tuple[PreTrainedModel, Plan]) -> None:
    assert difference(*case) <= TOLERANCE


def test_xlnets_second_stream_is_pruned_too() -> None:
    model = tiny("xlnet", head="masked")
    plan = uneven(bind(model).shape)
    data = {k: v for k, v in batch().items() if k != "labels"}
    rows, length = data["input_ids"].shape
    permuted = torch.triu(torch.ones(rows, length, length))
    targets = torch.zeros(rows, 2, length)
    targets[:, 0, 3] = targets[:, 1, 7] = 1.0
    data |= {"perm_mask": permuted, "target_mapping": targets}
    for removed in (plan, keeping(bind(model).shape, 1, 0, 0), plan_of(bind(model).shape, 0, 2)):
        pruned = copy.deepcopy(model)
        apply_(pruned, removed)
        with masked(bind(model), removed):
            expected = logits(model, data)
        assert expected.shape[1] == 2
        assert float((logits(pruned, data) - expected).abs().max()) <= TOLERANCE


def test_modernberts_layers_keep_their_kind_of_attention() -> None:
    model = tiny("modernbert", num_hidden_layers=6)
    kinds = [layer.attention_type for layer in model.model.layers]
    apply_(model, plan_of(bind(model).shape, 1, 3, 5))
    assert [layer.attention_type for layer in model.model.layers] == [kinds[i] for i in (1, 3, 5)]
    assert model.config.layer_types == [kinds[i] for i in (1, 3, 5)]


def test_a_layer_under_a_convolution_cannot_be_dropped() -> None:
    shape = bind(tiny("deberta-v2, convolution")).shape
    with pytest.raises(PlanError, match="layer 0 must stay"):
        plan_of(shape, 1, 2)


def test_plan_of_another_model_is_refused() -> None:
    plan = Plan.full(bind(tiny("bert")).shape)
    with pytest.raises(PlanError, match="apply it to its own model"):
        apply_(tiny("bert", intermediate_size=48), plan)


def test_edited_config_fails_at_the_door_with_both_shapes() -> None:
    model = tiny("bert")
    model.config.num_attention_heads = 3
    expected = r"layer 0: attention\.output\.dense must have the shape \(32, 30\), found \(32, 32\)"
    with pytest.raises(LayoutError, match=expected):
        bind(model)


def test_renamed_module_fails_at_the_door() -> None:
    model = tiny("bert")
    attention = model.bert.encoder.layer[1].attention.self
    attention.queries_per_kv_head = attention.query
    del attention.query
    with pytest.raises(LayoutError, match=r"layer 1: attention\.self\.query must be"):
        bind(model)


def test_projection_of_another_width_fails_at_the_door() -> None:
    model = tiny("eurobert")
    model.model.layers[2].self_attn.k_proj = torch.nn.Linear(32, 24, bias=False)
    expected = r"layer 2: self_attn\.k_proj must have the shape \(16, 32\), found \(24, 32\)"
    with pytest.raises(LayoutError, match=expected):
        bind(model)


def test_parameters_that_no_record_knows_fail_at_the_door() -> None:
    with pytest.raises(LayoutError, match=r"head_logits_proj\.weight' of shape \(4, 4\)"):
        bind(tiny("deberta", talking_head=True))


def test_chunked_ffns_are_refused() -> None:
    with pytest.raises(LayoutError, match="chunk_size_feed_forward must be 0, found 4"):
        bind(tiny("bert", chunk_size_feed_forward=4))


def test_removed_ffn_draws_dropout_for_each_token() -> None:
    model = tiny("bert", hidden_dropout_prob=0.5)
    apply_(model, keeping(bind(model).shape, 0, None, 0))
    projection = model.bert.encoder.layer[0].output.dense.train()
    assert projection(torch.zeros(2, 5, 40)).shape == (2, 5, 32)


def test_decoder_is_refused() -> None:
    with pytest.raises(LayoutError, match="is_decoder"):
        bind(tiny("bert", is_decoder=True, add_cross_attention=True))


def test_unknown_family_names_the_supported_ones() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="supported: albert, bert"):
        architecture_for("gpt2")
