"""Scores against what they are defined as: finite differences and brute force."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.errors import BudgetError, DataError, PlanError
from compress.model.batches import Batch, divergence, forward, label_loss, sampled_fisher_loss
from compress.model.binding import bind
from compress.model.hooks import hooked
from compress.model.layout import Layout
from compress.model.masking import masked
from compress.model.outputs import Outputs
from compress.model.task_head import likelihood_of
from compress.plan.cost import CostModel
from compress.plan.plan import EncoderShape, Plan
from compress.saliency.forward_only import activation_scores
from compress.saliency.gradient import gradient_scores
from compress.saliency.pruning_order import order_of
from compress.saliency.scorers import SCORE_NAMES, GradientScore, Scores, scorer
from compress.search.depth import DEPTH_STRATEGIES, contribution, drop_layers, left_out_divergence
from compress.search.options import encoder_options
from compress.search.plan_search import Problem, plan_by_scores
from compress.search.uniform import uniform_plan
from tests.families import FAMILIES, batch, choices, keeping, tiny


def gated_loss(
    layout: Layout, layer: int, unit: int, gate: float, data: dict[str, Tensor]
) -> Tensor:
    """Per-example loss with one head's output multiplied by `gate`."""
    width = layout.shape.head_width

    def scaled(heads: Tensor) -> Tensor:
        scale = torch.ones_like(heads)
        scale[..., unit * width : (unit + 1) * width] = gate
        return heads * scale

    with torch.no_grad(), hooked(layout.layers[layer], "heads", scaled):
        logits = forward(layout.model, data)
    return torch.nn.functional.cross_entropy(logits, data["labels"], reduction="none")


@pytest.mark.parametrize(
    ("family", "head"),
    [*((family, "sequence") for family in FAMILIES), ("bert", "choice"), ("albert", "choice")],
)
@pytest.mark.parametrize("power", [1, 2])
def test_sequence_scores_equal_finite_differences(family: str, head: str, power: int) -> None:
    """Also where one example uses a gate several times: shared layers, rows of choices."""
    layout = bind(tiny(family, head=head).double())
    data = choices(batch(rows=6)) if head == "choice" else batch()
    method = GradientScore(reduction="sequence", power=power, labels="given")  # type: ignore[arg-type]
    scores = gradient_scores(layout, [data], label_loss, method)
    single = family in ("deberta", "modernbert", "eurobert")  # compute norms in float32
    step, tolerance = (1e-3, 5e-3) if single else (1e-4, 1e-4)
    for layer, unit in ((0, 0), (1, 3), (2, 1))[: len(layout.layers)]:
        up, down = (gated_loss(layout, layer, unit, 1 + s, data) for s in (step, -step))
        expected = (((up - down) / (2 * step)).abs() ** power).mean()
        assert scores.heads[layer][unit] == pytest.approx(float(expected), rel=tolerance)


def test_scores_do_not_depend_on_batching_unless_they_say_so() -> None:
    layout = bind(tiny("bert"))
    data = batch(rows=6)
    halves = [{k: v[i : i + 3] for k, v in data.items()} for i in (0, 3)]
    for reduction, same in (("token", True), ("sequence", True), ("batch", False)):
        method = GradientScore(reduction=reduction, power=2, labels="given")  # type: ignore[arg-type]
        one, two = (gradient_scores(layout, b, label_loss, method) for b in ([data], halves))
        assert np.allclose(one.neurons[1], two.neurons[1], rtol=1e-4) == same, reduction


def test_a_multi_label_models_fisher_is_that_of_independent_labels() -> None:
    """Adding one number to all logits changes every label's odds; a softmax would not see it."""
    logits = torch.tensor([[0.3, -0.2, 2.5]], dtype=torch.float64, requires_grad=True)
    loss = sampled_fisher_loss(temperature=2.0, seed=1, likelihood="bernoulli")
    total = torch.zeros(3, dtype=torch.float64)
    draws = 3000
    for _ in range(draws):
        (gradient,) = torch.autograd.grad(loss(logits, batch(rows=4)), logits)
        total += gradient[0].square()
    p = (logits.detach() / 2).sigmoid()[0]
    assert torch.allclose(total / draws, p * (1 - p) / 4, rtol=0.1)
    fixed = logits.detach()
    moved = divergence(fixed, fixed + 4, batch(rows=4), likelihood="bernoulli")
    here, there = fixed.sigmoid(), (fixed + 4).sigmoid()
    expected = here * (here / there).log() + (1 - here) * ((1 - here) / (1 - there)).log()
    assert float(moved) == pytest.approx(float(expected.sum()))


def test_what_a_multi_label_model_is_pruned_by_sees_a_shift_of_all_logits() -> None:
    model = tiny("bert", problem_type="multi_label_classification")
    outputs = Outputs(likelihood=likelihood_of(model), pooling=None, temperature=2.0)

    def run(_: Batch) -> Tensor:
        return torch.zeros(4, 3)

    assert outputs.divergence(lambda _: torch.full((4, 3), 4.0), run, [batch()]) > 1


def test_labels_that_a_score_reads_must_be_there() -> None:
    data = {name: values for name, values in batch().items() if name != "labels"}
    with pytest.raises(DataError, match="no 'labels'"):
        scorer("michel")(bind(tiny("bert")), [data], lambda *_: None)


def test_a_lazy_sequence_of_batches_keeps_each_batchs_own_outputs() -> None:
    class Lazy(list[int]):
        def __getitem__(self, index: int) -> Batch:  # type: ignore[override]
            return {"input_ids": torch.full((1, 2), index), "attention_mask": torch.ones(1, 2)}

    outputs = Outputs(likelihood="gaussian", pooling=None, temperature=1.0)
    kept = outputs.of(lambda made: made["input_ids"].float())
    batches = Lazy(range(8))
    for _ in range(2):
        for i in range(8):
            assert kept(batches[i])[0, 0] == i


def test_layer_norm_gives_unit_vectors() -> None:
    scores = scorer("michel")(bind(tiny("bert")), [batch()], lambda *_: None)
    for heads, neurons in zip(scores.heads, scores.neurons, strict=True):
        assert np.linalg.norm([*heads, *neurons]) == pytest.approx(1)


def test_sampled_fisher_needs_no_labels_and_matches_its_expectation() -> None:
    """Averaged over many draws, the squared gradient is the exact Fisher of the softmax."""
    logits = torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64, requires_grad=True)
    total = torch.zeros(3, dtype=torch.float64)
    loss = sampled_fisher_loss(temperature=2.0, seed=1)
    draws = 3000
    for _ in range(draws):
        (gradient,) = torch.autograd.grad(loss(logits, batch(rows=4)), logits)
        total += gradient[0].square()
    p = (logits.detach() / 2).softmax(-1)[0]
    assert torch.allclose(total / draws, p * (1 - p) / 4, rtol=0.1)


def test_regression_fisher_is_the_squared_derivative() -> None:
    logits = torch.tensor([[2.0], [-1.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(sampled_fisher_loss()(logits, batch()), logits)
    assert torch.equal(gradient, torch.ones(2, 1))


@pytest.mark.parametrize("family", FAMILIES)
def test_activation_scores_ignore_padding(family: str) -> None:
    layout = bind(tiny(family))
    data = batch()
    noisy = data | {"input_ids": torch.where(data["attention_mask"] == 1, data["input_ids"], 7)}
    if family == "roberta":  # it numbers positions by which ids are padding
        noisy = data
    one, two = (activation_scores(layout, [d]) for d in (data, noisy))
    assert np.allclose(one.neurons[0], two.neurons[0], rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SCORE_NAMES)
def test_every_score_covers_every_unit(family: str, name: str) -> None:
    layout = bind(tiny(family))
    scores = scorer(name)(layout, [batch()], lambda *_: None)  # type: ignore[arg-type]
    assert tuple(map(len, scores.heads)) == layout.shape.n_heads
    assert tuple(map(len, scores.neurons)) == layout.shape.ffn_widths
    assert all(np.isfinite(a).all() and (a >= 0).all() for a in (*scores.heads, *scores.neurons))


def test_scores_survive_the_disk(tmp_path: Path) -> None:
    scores = scorer("random", seed=3)(bind(tiny("bert")), [], lambda *_: None)
    scores.save(tmp_path / "scores.npz")
    again = Scores.load(tmp_path / "scores.npz")
    assert again.kind == "random"
    assert all(np.array_equal(a, b) for a, b in zip(scores.heads, again.heads, strict=True))


def test_scoring_leaves_the_model_as_it_was() -> None:
    model = tiny("bert").train()
    scorer("fisher")(bind(model), [batch()], lambda *_: None)
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


# Plans.


def planned(
    scores: Scores, shape: EncoderShape, cost: CostModel, share: float, **options: Any
) -> Plan:
    """The plan for a share of the encoder's cost."""
    prices = cost.prices(shape)
    return plan_by_scores(scores, shape, prices, share * prices.total(shape), **options)


@pytest.mark.parametrize("name", SCORE_NAMES)
def test_no_score_starves_one_kind_of_unit(name: str) -> None:
    """Heads cost a hundred neurons: a score that forgets it would remove them all."""
    model = tiny("bert", hidden_size=64, intermediate_size=256)
    layout = bind(model)
    scores = scorer(name)(layout, [batch()], lambda *_: None)  # type: ignore[arg-type]
    cost = CostModel(unit="macs", sequence=16)
    plan = planned(scores, layout.shape, cost, 0.5, round_to=4)
    assert 0 < sum(len(layer.heads) for layer in plan.layers) <= 12
    assert 0 < sum(len(layer.neurons) for layer in plan.layers) <= 768


def test_widths_are_whole_multiples_even_when_the_last_run_is_short() -> None:
    layout = bind(tiny("bert"))  # 40 neurons: two runs of 16 and one of 8
    cost = CostModel(unit="macs", sequence=16)
    for seed in range(8):
        scores = scorer("random", seed)(layout, [], lambda *_: None)
        plan = planned(scores, layout.shape, cost, 0.6)
        assert {len(layer.neurons) for layer in plan.layers} <= {0, 16, 32, 40}


@pytest.mark.parametrize("unit", ["macs", "parameters"])
@pytest.mark.parametrize("share", [0.15, 0.5, 0.9, 1.0])
def test_allocation_stays_within_the_budget_and_uses_it(unit: str, share: float) -> None:
    layout = bind(tiny("bert"))
    scores = scorer("random")(layout, [], lambda *_: None)
    cost = CostModel(unit=unit, sequence=16)  # type: ignore[arg-type]
    total = cost.total(layout.shape)
    plan = planned(scores, layout.shape, cost, share, round_to=4)
    spent = cost.total(plan.student_shape)
    largest = max(cost.head(layout.shape, 0), 4 * cost.neuron(layout.shape, 0))
    assert share * total - largest < spent <= share * total
    assert all(len(layer.neurons) % 4 == 0 for layer in plan.layers)


def test_allocation_keeps_the_best_scored() -> None:
    layout = bind(tiny("bert"))
    scores = scorer("random")(layout, [], lambda *_: None)
    cost = CostModel(unit="macs", sequence=16)
    plan = planned(scores, layout.shape, cost, 0.5, round_to=1)
    for layer in plan.layers:
        values = scores.neurons[layer.source]
        gone = [v for i, v in enumerate(values) if i not in layer.neurons]
        assert min(values[list(layer.neurons)]) >= max(gone, default=0.0)


def test_larger_budgets_keep_more_of_the_score() -> None:
    layout = bind(tiny("bert"))
    scores = scorer("random")(layout, [], lambda *_: None)
    cost = CostModel(unit="macs", sequence=16)
    plans = [
        planned(scores, layout.shape, cost, share, round_to=1) for share in (0.3, 0.5, 0.7, 1.0)
    ]
    values = [
        sum(
            scores.neurons[k.source][list(k.neurons)].sum()
            + scores.heads[k.source][list(k.heads)].sum()
            for k in plan.layers
        )
        for plan in plans
    ]
    assert all(a < b for a, b in pairwise(values))


def test_unreachable_budget_names_the_smallest() -> None:
    layout = bind(tiny("bert"))
    scores = scorer("random")(layout, [], lambda *_: None)
    cost = CostModel(unit="macs", sequence=16)
    least = cost.total(replace(layout.shape, n_heads=(0, 0, 0)))
    with pytest.raises(BudgetError, match=re.escape(f"at least {least:.4g} macs")):
        planned(scores, layout.shape, cost, 0.1, units=("heads",))


def test_uniform_plan_is_the_best_of_its_kind() -> None:
    """Against brute force over every head count and width."""
    layout = bind(tiny("bert"))
    shape, cost = layout.shape, CostModel(unit="macs", sequence=12)
    scores = scorer("activation")(layout, [batch()], lambda *_: None)
    budget = 0.55 * cost.total(shape)
    options = encoder_options(shape, order_of(scores), units=("heads", "neurons"), round_to=4)
    problem = Problem(shape=shape, options=options, prices=cost.prices(shape), budget=budget)
    plan = uniform_plan(problem, (1, 2, 3, 4))
    heads, widths = {len(k.heads) for k in plan.layers}, {len(k.neurons) for k in plan.layers}
    assert len(heads) == len(widths) == 1
    assert cost.total(plan.student_shape) <= budget

    def value(n_heads: int, width: int) -> float:
        parts = [(s, n_heads) for s in scores.heads] + [(s, width) for s in scores.neurons]
        return sum(float(np.sort(s)[-n:].sum()) for s, n in parts)

    found = value(heads.pop(), widths.pop())
    for n_heads in (1, 2, 3, 4):
        for width in range(4, 41, 4):
            layers = [replace(k, heads=k.heads[:n_heads], neurons=k.neurons[:width])
                      for k in Plan.full(shape).layers]  # fmt: skip
            other = Plan(shape=shape, layers=tuple(layers), depth=3)
            if cost.total(other.student_shape) <= budget:
                assert found >= value(n_heads, width) - 1e-9


# Depth.


@pytest.mark.parametrize(
    ("strategy", "n_drop", "kept"),
    [
        ("top", 2, [0, 1, 2, 3]),
        ("bottom", 2, [2, 3, 4, 5]),
        ("symmetric", 2, [0, 1, 4, 5]),
        ("alternate", 2, [0, 1, 2, 4]),
        ("alternate-odd", 2, [0, 1, 3, 5]),
        ("top", 0, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_positional_strategies_keep_the_published_layers(
    strategy: str, n_drop: int, kept: list[int]
) -> None:
    layout = bind(tiny("bert", num_hidden_layers=6))
    plan = drop_layers(layout, n_drop, strategy)  # type: ignore[arg-type]
    assert [layer.source for layer in plan.layers] == kept


def test_contribution_drops_the_layer_that_changes_least() -> None:
    model = tiny("bert", num_hidden_layers=4)
    layout = bind(model)
    with torch.no_grad():  # layer 2 now passes its input on, but for its norms
        for sublayer in layout.layers[2].sublayers:
            weight, bias = sublayer.projection
            weight.mul_(1e-3)
            bias.zero_()
            norm = sublayer.summing
            norm.weight.fill_(1.0)
            norm.bias.zero_()
    cosines = contribution(layout, [batch()])
    assert cosines.argmax() == 2
    plan = drop_layers(layout, 1, "contribution", [batch()])
    assert [layer.source for layer in plan.layers] == [0, 1, 3]


def test_leave_one_out_measures_the_divergence_of_the_masked_model() -> None:
    layout = bind(tiny("bert"))
    loss_increases = left_out_divergence(layout, [batch()])
    with torch.no_grad():
        whole = forward(layout.model, batch()).log_softmax(-1)
        with masked(layout, drop_layers(layout, 1, "top")):
            without = forward(layout.model, batch()).log_softmax(-1)
    expected = (whole.exp() * (whole - without)).sum(-1).mean()
    assert loss_increases[2] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("strategy", DEPTH_STRATEGIES)
def test_shared_layers_are_used_fewer_times(strategy: str) -> None:
    plan = drop_layers(bind(tiny("albert")), 1, strategy, [batch()])
    assert (len(plan.layers), plan.depth) == (2, 2)


def test_each_group_of_shared_layers_keeps_a_use() -> None:
    with pytest.raises(PlanError, match="0 to 2, found 3; keep at least 2, one use of each group"):
        drop_layers(bind(tiny("albert, two groups")), 3)


def test_a_pinned_first_layer_is_never_dropped() -> None:
    layout = bind(tiny("deberta-v2, convolution"))
    for strategy in DEPTH_STRATEGIES:
        plan = drop_layers(layout, 1, strategy, [batch()])
        assert plan.layers[0].source == 0


def test_dropping_every_layer_is_refused() -> None:
    with pytest.raises(PlanError, match="0 to 2, found 3"):
        drop_layers(bind(tiny("bert")), 3)


def test_masks_come_off_again() -> None:
    layout = bind(tiny("bert"))
    before = forward(layout.model, batch())
    with masked(layout, keeping(layout.shape, 0, 1, 3)):
        assert not torch.equal(forward(layout.model, batch()), before)
    assert torch.equal(forward(layout.model, batch()), before)


def test_several_numbers_of_a_regression_are_no_classes() -> None:
    model = tiny("bert", head="sequence", num_labels=3, problem_type="regression")
    assert likelihood_of(model) == "gaussian"
