"""The pruner: budgets met in every family, targets refused by name, what may go and no more."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from compress.errors import BudgetError, CheckpointError, DataError
from compress.model import outputs as outputs_module
from compress.model.batches import Batches, forward, sampled_fisher_loss, silent
from compress.model.binding import bind
from compress.model.outputs import Outputs
from compress.model.pooling import Pooling
from compress.model.surgery import apply_
from compress.plan.cost import CostModel
from compress.plan.plan import Plan
from compress.pruner.pruner import Pruner
from compress.pruner.spec import PruneSpec
from compress.saliency.pruning_order import order_of
from compress.saliency.scorers import activation_scores, kprune_scores, scorer
from compress.search.options import SearchUnit
from compress.search.reachable import cheapest
from tests.families import FAMILIES, VARIANTS, batch, logits, tiny

BATCHES = [batch(rows=8, length=12, seed=s) for s in range(8)]
SPEC = PruneSpec(round_to=4, trials=2, judged=100)


KPRUNE = replace(SPEC, score="kprune", units=("heads", "neurons"), trials=None)


def pruner(family: str, spec: PruneSpec = SPEC, unit: str = "macs") -> Pruner:
    model = tiny(family)
    cost = CostModel(unit=unit, sequence=12)  # type: ignore[arg-type]
    return Pruner(model, BATCHES, cost.prices(bind(model).shape), spec)


@pytest.mark.parametrize(
    ("family", "spec"),
    [
        *((family, SPEC) for family in [*FAMILIES, *VARIANTS]),
        *((family, KPRUNE) for family in ["bert", "albert", "modernbert", "xlnet"]),
    ],
)
def test_a_pruner_meets_its_budgets_and_its_plans_make_its_students(
    family: str, spec: PruneSpec
) -> None:
    down = pruner(family, spec)
    teacher = down.teacher.model
    before = logits(teacher)
    for share in (0.8, 0.5):
        member = down.prune_to(share * down.dense_cost)
        assert member.cost <= share * down.dense_cost
        cut = copy.deepcopy(teacher)
        apply_(cut, member.plan)
        sizes = bind(cut).shape
        found = bind(member.model).shape
        assert (sizes.n_heads, sizes.ffn_widths) == (found.n_heads, found.ffn_widths)
        assert np.isfinite(member.error)
        assert member.error > 0
    assert torch.equal(before, logits(teacher))


@pytest.mark.parametrize("family", ["bert", "modernbert", "albert"])
def test_prices_of_a_share_are_the_cost_model(family: str) -> None:
    shape = bind(tiny(family)).shape
    for unit in ("macs", "parameters"):
        cost = CostModel(unit=unit, sequence=12)
        assert cost.prices(shape).total(shape) == pytest.approx(cost.total(shape))


def test_without_sublayers_each_layer_keeps_a_head_and_some_neurons() -> None:
    spec = replace(SPEC, units=("heads", "neurons"))
    down = pruner("bert", spec)
    member = down.prune_to(cheapest(down.teacher.shape, down.prices, spec.units, spec.round_to))
    assert set(member.plan.student_shape.n_heads) == {1}
    assert set(member.plan.student_shape.ffn_widths) == {4}


@pytest.mark.parametrize(
    ("units", "heads", "neurons"),
    [(("neurons",), {4}, None), (("heads",), None, {40})],
)
def test_only_what_is_named_goes(
    units: tuple[SearchUnit, ...], heads: set[int] | None, neurons: set[int] | None
) -> None:
    down = pruner("bert", replace(SPEC, units=units))
    shape = down.prune_to(0.85 * down.dense_cost).plan.student_shape
    assert heads is None or set(shape.n_heads) == heads
    assert neurons is None or set(shape.ffn_widths) == neurons


@pytest.mark.parametrize(
    "units", [("sublayers",), ("neurons", "sublayers"), ("heads", "sublayers"), ("layers",)]
)
def test_the_least_that_is_promised_is_reached(units: tuple[SearchUnit, ...]) -> None:
    down = pruner("bert", replace(SPEC, units=units))
    floor = down.cheapest_cost()
    member = down.prune_to(1.005 * floor, quick=True)
    assert member.cost == pytest.approx(floor, rel=0.005)
    assert sum(member.plan.student_shape.n_heads + member.plan.student_shape.ffn_widths) > 0


@pytest.mark.parametrize("head", ["token", "question", "masked", "plain"])
def test_every_task_head_is_pruned(head: str) -> None:
    model = tiny("bert", head=head)
    prices = CostModel(unit="macs", sequence=12).prices(bind(model).shape)
    unlabelled = [{k: v for k, v in b.items() if k != "labels"} for b in BATCHES]
    spec = replace(SPEC, units=("heads", "neurons", "sublayers", "layers"))
    down = Pruner(model, unlabelled, prices, spec)
    member = down.prune_to(0.6 * down.dense_cost)
    assert np.isfinite(member.error)


def test_dropping_every_layer_but_one_is_priced_like_the_other_options() -> None:
    down = pruner("bert", replace(SPEC, units=("layers", "neurons")))
    loss_increases = down._trials().drop_loss_increases(down._storage.student)
    assert len(loss_increases) == 2
    assert all(loss_increase > 0 for loss_increase in loss_increases.values())


def test_layers_go_when_they_are_named() -> None:
    spec = replace(SPEC, units=("layers",))
    down = pruner("bert", spec)
    member = down.prune_to(0.4 * down.dense_cost)
    assert len(member.plan.layers) == 1
    assert set(member.plan.student_shape.n_heads) == {4}


def test_a_pinned_first_layer_stays() -> None:
    down = pruner("deberta-v2, convolution", replace(SPEC, units=("layers",)))
    assert down.prune_to(0.4 * down.dense_cost).plan.layers[0].source == 0


def test_an_unreachable_budget_names_the_least() -> None:
    down = pruner("bert", replace(SPEC, units=("heads",)))
    with pytest.raises(BudgetError, match=r"at least .* removing heads can reach, found 0\.1"):
        down.prune_to(0.1 * down.dense_cost)
    assert down.plan.student_shape.n_heads == (4, 4, 4)


def test_too_little_data_says_how_much_would_do() -> None:
    model = tiny("bert", intermediate_size=400)
    prices = CostModel(unit="macs", sequence=12).prices(bind(model).shape)
    with pytest.raises(DataError, match=r"401 unknowns .* about \d+ examples would do"):
        Pruner(model, BATCHES, prices, SPEC)


def test_one_batch_is_too_few() -> None:
    model = tiny("bert")
    prices = CostModel(unit="macs", sequence=12).prices(bind(model).shape)
    with pytest.raises(DataError, match=r"two batches .* found 1 of 8 examples; give another"):
        Pruner(model, BATCHES[:1], prices, SPEC)


def test_broken_weights_are_refused() -> None:
    model = tiny("bert")
    prices = CostModel(unit="macs", sequence=12).prices(bind(model).shape)
    model.classifier.weight.data[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match="finite"):
        Pruner(model, BATCHES, prices, SPEC)


def test_the_unpruned_model_has_no_error() -> None:
    down = pruner("bert")
    model = down.teacher.model
    assert down.error_of(lambda data: forward(model, data)) == pytest.approx(0.0, abs=1e-6)


def test_repair_lowers_the_error() -> None:
    errors = []
    for repair in (False, True):
        down = pruner("bert", replace(SPEC, repair=repair, trials=0))
        errors.append(down.prune_to(0.5 * down.dense_cost).error)
    assert errors[1] < errors[0]


def test_the_same_seed_gives_the_same_student() -> None:
    plans = []
    for _ in range(2):
        down = pruner("bert")
        plans.append(down.prune_to(0.5 * down.dense_cost).plan)
    assert plans[0] == plans[1]


@pytest.mark.parametrize("mode", ["cls", "mean", "max"])
def test_embedding_models_are_judged_by_their_pooled_vector(mode: str) -> None:
    pooling = Pooling(mode=mode)  # type: ignore[arg-type]
    model = tiny("bert", head="plain")
    prices = CostModel(unit="macs", sequence=12).prices(bind(model).shape)
    down = Pruner(model, BATCHES, prices, replace(SPEC, pooling=pooling))
    member = down.prune_to(0.6 * down.dense_cost)
    held = down._held[0]
    vectors = [pooling(forward(m, held), held["attention_mask"]) for m in (model, member.model)]
    expected = float((vectors[0] - vectors[1]).detach().square().sum(1).mean())
    assert member.error == pytest.approx(expected, rel=1e-4)


def test_kprune_cuts_layers_bottom_up_and_spends_what_the_lower_ones_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    down, cuts = pruner("bert", KPRUNE), []
    cut = down._cut

    def watched(step: Plan, batches: Batches, *, final: bool) -> None:
        full = Plan.full(step.shape)
        cuts.append([i for i, layer in enumerate(step.layers) if layer != full.layers[i]])
        cut(step, batches, final=final)

    monkeypatch.setattr(down, "_cut", watched)
    member = down.prune_to(0.5 * down.dense_cost)
    assert [changed for changed in cuts if changed] == [[0], [1], [2]]
    assert member.cost > 0.45 * down.dense_cost


def test_knowledge_is_half_the_fisher_information_and_a_part_of_the_energy() -> None:
    layout = bind(tiny("bert"))
    loss = sampled_fisher_loss(2.0, 0, likelihood="categorical")
    order = order_of(kprune_scores(layout, BATCHES, loss))
    fisher = scorer("fisher", 0)(layout, BATCHES, silent)
    energy = activation_scores(layout, BATCHES)
    for layer in layout.layers:
        for sublayer, of_outputs, of_states in (
            ("attention", fisher.heads, energy.heads),
            ("ffn", fisher.neurons, energy.neurons),
        ):
            found = order(layer.index, sublayer)  # type: ignore[arg-type]
            assert found is not None
            wanted = of_outputs[layer.index] / 2 + 2.5e-4 * of_states[layer.index]
            assert np.diff(found.loss_increase) == pytest.approx(np.sort(wanted), rel=1e-4)
            assert wanted[found.order] == pytest.approx(np.sort(wanted), rel=1e-4)


def test_outputs_too_large_to_remember_are_compared_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = tiny("bert"), tiny("bert", head="masked")
    assert divergence_to_noisy(model) == pytest.approx(forgotten(monkeypatch, model))
    assert divergence_to_noisy(other) == pytest.approx(forgotten(monkeypatch, other))


def forgotten(monkeypatch: pytest.MonkeyPatch, model: PreTrainedModel) -> float:
    with monkeypatch.context() as patch:
        patch.setattr(outputs_module, "MOST_REMEMBERED", 0)
        return divergence_to_noisy(model)


def divergence_to_noisy(model: PreTrainedModel) -> float:
    """Mean divergence of outputs that are a little off from those of the model."""
    outputs = Outputs(likelihood="categorical", pooling=None, temperature=2.0)
    unlabelled = [{k: v for k, v in b.items() if k != "labels"} for b in BATCHES]
    wanted = outputs.of(lambda b: forward(model, b))
    for found in (wanted(unlabelled[0]), wanted(unlabelled[0])):
        assert torch.equal(found, forward(model, unlabelled[0]))
    return outputs.divergence(lambda b: 1.1 * forward(model, b), wanted, unlabelled)
