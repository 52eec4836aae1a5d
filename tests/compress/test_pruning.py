"""Repair against brute-force least squares, and the whole of pruning on every family."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch

from compress.architectures import architecture_for
from compress.errors import BudgetError, CheckpointError, DataError, PlanError, SpecError
from compress.model.batches import forward
from compress.model.binding import bind
from compress.model.pooling import Pooling
from compress.model.surgery import apply_
from compress.plan.cost import CostModel, Prices
from compress.plan.plan import Plan
from compress.plan.stock_config import stock_attributes
from compress.pruner.prune import prune
from compress.pruner.pruner import Pruner
from compress.pruner.schedule import step_costs
from compress.pruner.spec import MethodName, PlanLayout, PruneSpec
from compress.repair.least_squares import repair_, solve_damped
from compress.repair.targets import TeacherTargets
from tests.families import FAMILIES, VARIANTS, batch, keeping, logits, tiny, uneven

BATCHES = [batch(rows=8, length=12, seed=s) for s in range(6)]


def error(student: torch.nn.Module, teacher: torch.nn.Module) -> float:
    """Mean squared difference of logits over the calibration data."""
    return float(
        torch.stack([(logits(student, b) - logits(teacher, b)).square().mean() for b in BATCHES])
        .mean()
    )  # fmt: skip


def test_damped_solution_is_ridge_regression() -> None:
    generator = np.random.default_rng(0)
    features, residual = generator.normal(size=(50, 6)), generator.normal(size=(50, 3))
    gram, moment = features.T @ features, features.T @ residual
    damping = 0.1
    ridge = np.sqrt(damping * np.diag(gram).mean()) * np.eye(6)
    expected, *_ = np.linalg.lstsq(
        np.vstack([features, ridge]), np.vstack([residual, np.zeros((6, 3))]), rcond=None
    )
    found = solve_damped(torch.from_numpy(gram), torch.from_numpy(moment), damping)
    assert np.allclose(found.numpy(), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_repair_brings_the_student_nearer_to_its_teacher(family: str) -> None:
    teacher = tiny(family)
    plan = uneven(bind(teacher).shape)
    student = copy.deepcopy(teacher)
    apply_(student, plan)
    before = error(student, teacher)
    repair_(bind(student), bind(teacher), plan, BATCHES)
    assert error(student, teacher) < 0.7 * before


@pytest.mark.parametrize("family", FAMILIES)
def test_repairing_an_unpruned_model_changes_nothing(family: str) -> None:
    teacher = tiny(family)
    student = copy.deepcopy(teacher)
    repair_(bind(student), bind(teacher), Plan.full(bind(teacher).shape), BATCHES)
    assert torch.allclose(logits(student), logits(teacher), atol=1e-5)


def test_repair_moves_the_bias_where_a_whole_sublayer_is_gone() -> None:
    teacher = tiny("bert")
    plan = keeping(bind(teacher).shape, 2, 0, 0)
    student = copy.deepcopy(teacher)
    apply_(student, plan)
    before = error(student, teacher)
    repair_(bind(student), bind(teacher), plan, BATCHES)
    assert error(student, teacher) < before


def test_repair_ignores_what_stands_under_padding() -> None:
    teacher = tiny("bert")
    plan = uneven(bind(teacher).shape)
    repaired = []
    for filler in (7, 50):
        student = copy.deepcopy(teacher)
        apply_(student, plan)
        data = [
            b | {"input_ids": torch.where(b["attention_mask"] == 1, b["input_ids"], filler)}
            for b in BATCHES
        ]
        repair_(bind(student), bind(teacher), plan, data)
        repaired.append(student)
    assert torch.allclose(logits(repaired[0]), logits(repaired[1]), atol=1e-5)


COST = CostModel(unit="macs", sequence=12)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", get_args(PlanLayout))
@pytest.mark.parametrize("score", get_args(MethodName))
def test_pruning_meets_its_budget_and_leaves_the_teacher_alone(
    family: str, layout: PlanLayout, score: MethodName
) -> None:
    if score == "kprune" and layout == "uniform":
        pytest.skip("K-prune plans layer by layer")
    model = tiny(family)
    before, shape = logits(model), bind(model).shape
    spec = PruneSpec(score=score, layout=layout, steps=2, trials=0, round_to=4)
    pruned = prune(model, BATCHES, 0.6, spec, cost=COST)
    student = bind(pruned.model).shape
    assert COST.total(student) <= 0.6 * COST.total(shape)
    assert student.fits(pruned.plan.student_shape)
    assert layout == "free" or len(set(student.n_heads)) == len(set(student.ffn_widths)) == 1
    assert pruned.error is not None
    assert np.isfinite(pruned.error)
    assert (pruned.scores is None) == (score == "obs")
    assert torch.equal(logits(model), before)
    assert torch.isfinite(logits(pruned.model)).all()


def test_same_seed_gives_the_same_student() -> None:
    spec = PruneSpec(score="fisher", steps=2, round_to=4, seed=5)
    one, two = (prune(tiny("bert"), BATCHES, 0.4, spec) for _ in range(2))
    assert one.plan == two.plan
    assert torch.equal(logits(one.model), logits(two.model))


@pytest.mark.parametrize("score", ["obs", "kprune", "fisher"])
def test_dropping_layers_counts_towards_the_target(score: MethodName) -> None:
    spec = PruneSpec(score=score, drop=1, steps=1, round_to=4)
    pruned = prune(tiny("bert"), BATCHES, 0.7, spec)
    assert [layer.source for layer in pruned.plan.layers] == [0, 1]
    assert stock_attributes(architecture_for("bert"), pruned.plan) is not None
    smaller = prune(tiny("bert"), BATCHES, 0.4, spec)
    assert smaller.cost < pruned.cost
    assert len(smaller.plan.layers) == 2


def test_layers_are_dropped_once() -> None:
    model = tiny("bert")
    prices = COST.prices(bind(model).shape)
    pruner = Pruner(model, BATCHES, prices, PruneSpec(drop=1, steps=1, trials=0, round_to=4))
    students = [pruner.prune_to(ratio * pruner.dense_cost) for ratio in (0.7, 0.5, 0.3)]
    assert [len(student.plan.layers) for student in students] == [2, 2, 2]
    assert students[0].cost > students[1].cost > students[2].cost


def test_a_share_of_one_keeps_everything() -> None:
    model = tiny("bert")
    pruned = prune(model, BATCHES, 1.0)
    assert pruned.error == pytest.approx(0.0, abs=1e-6)
    assert torch.allclose(logits(pruned.model), logits(model), atol=1e-5)


@pytest.mark.parametrize("ratio", [0.0, -0.5, 1.5])
def test_a_ratio_outside_its_range_is_refused(ratio: float) -> None:
    with pytest.raises(SpecError, match=r"target_ratio .* is not a number above 0 and at most 1"):
        prune(tiny("bert"), BATCHES, ratio)


@pytest.mark.parametrize("layout", get_args(PlanLayout))
def test_an_unreachable_ratio_names_the_smallest(layout: PlanLayout) -> None:
    spec = PruneSpec(units=("heads",), layout=layout)
    with pytest.raises(BudgetError, match=r"at least 0\.\d+, the smallest that removing heads"):
        prune(tiny("bert"), BATCHES, 0.2, spec, cost=COST)


def test_model_with_broken_logits_is_refused() -> None:
    model = tiny("bert")
    with torch.no_grad():
        model.classifier.weight.fill_(1e38)
        model.classifier.bias.fill_(3e38)
    with pytest.raises(CheckpointError, match="NaN or Inf on the calibration data"):
        prune(model, BATCHES, 0.5)


@pytest.mark.parametrize("score", get_args(MethodName))
def test_without_held_out_data_everything_is_fitted_on_and_no_error_is_told(
    score: MethodName,
) -> None:
    labelled = BATCHES[:1]
    spec = PruneSpec(score=score, held_out=0, steps=1, trials=0, repair=False, round_to=4)
    model = tiny("bert", intermediate_size=8)
    data = BATCHES if score == "obs" else labelled
    pruner = Pruner(model, data, COST.prices(bind(model).shape), spec)
    assert pruner.prune_to(0.8 * pruner.dense_cost).error is None
    with pytest.raises(SpecError, match=r"PruneSpec\.held_out"):
        pruner.error_of(lambda data: forward(model, data))


@pytest.mark.parametrize("score", ["magnitude", "fisher"])
def test_scores_meet_a_budget_in_milliseconds(score: MethodName) -> None:
    """Prices that are no sum of units: a sublayer costs much by being there at all."""
    model = tiny("bert")
    shape = bind(model).shape
    attention = np.concatenate([[0.0], 5 + np.arange(4)])
    ffn = np.concatenate([[0.0], 5 + 0.1 * np.arange(40)])
    prices = Prices(unit="ms", fixed=1.0, attention=attention, ffn=ffn)
    pruner = Pruner(model, BATCHES, prices, PruneSpec(score=score, steps=1, round_to=4))
    pruned = pruner.prune_to(0.5 * pruner.dense_cost)
    assert pruned.cost == prices.total(pruned.plan.student_shape) <= 0.5 * prices.total(shape)
    assert 0 in (*pruned.plan.student_shape.n_heads, *pruned.plan.student_shape.ffn_widths)


@pytest.mark.parametrize("family", [*FAMILIES, *VARIANTS])
@pytest.mark.parametrize("unit", ["macs", "parameters"])
@pytest.mark.parametrize("drop", [0, 1])
def test_predicted_costs_are_the_students(family: str, unit: str, drop: int) -> None:
    model = tiny(family)
    cost = CostModel(unit=unit, sequence=12)  # type: ignore[arg-type]
    spec = PruneSpec(score="magnitude", steps=1, repair=False, drop=drop, round_to=4)
    pruned = prune(model, BATCHES, 0.5, spec, cost=cost)
    student = cost.total(bind(pruned.model).shape)
    assert pruned.cost == pytest.approx(student, rel=0.005)
    assert student <= 0.5 * cost.total(bind(model).shape) * 1.005


@pytest.mark.parametrize("unit", ["macs", "parameters"])
@pytest.mark.parametrize("layers", [3, 12])
def test_the_cheapest_student_keeps_something(unit: str, layers: int) -> None:
    model = tiny("bert", num_hidden_layers=layers)
    prices = CostModel(unit=unit, sequence=12).prices(bind(model).shape)  # type: ignore[arg-type]
    spec = PruneSpec(score="magnitude", repair=False, round_to=4)
    pruner = Pruner(model, BATCHES, prices, spec)
    least = pruner.cheapest_cost()
    shape = pruner.prune_to(least, quick=True).plan.student_shape
    assert sum(shape.n_heads) + sum(shape.ffn_widths) > 0
    assert prices.total(shape) == pytest.approx(least) == pytest.approx(pruner.cheapest_cost())


def test_a_uniform_student_of_exactly_the_budget_is_found() -> None:
    model = tiny("bert")
    prices = COST.prices(bind(model).shape)
    spec = PruneSpec(score="magnitude", layout="uniform", steps=1, repair=False, round_to=4)
    pruner = Pruner(model, BATCHES, prices, spec)
    least = pruner.cheapest_cost()
    assert pruner.prune_to(least * (1 - 5e-10)).cost == pytest.approx(least)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (PruneSpec(layout="uniform"), BudgetError, "whose layers are alike"),
        (PruneSpec(drop=9), PlanError, "layers to drop must be 0 to 2, found 9"),
    ],
)
def test_what_a_shape_rules_out_is_refused_before_any_work(
    spec: PruneSpec, error: type[Exception], message: str
) -> None:
    model = tiny("bert")
    apply_(model, keeping(bind(model).shape, 0, 0, 8))
    with pytest.raises(error, match=message):
        Pruner(model, BATCHES, COST.prices(bind(model).shape), spec)


@pytest.mark.parametrize("budget", [float("nan"), 0.0, -1.0])
def test_a_budget_that_is_no_amount_is_refused(budget: float) -> None:
    model = tiny("bert")
    pruner = Pruner(model, BATCHES, COST.prices(bind(model).shape), PruneSpec(round_to=4))
    with pytest.raises(SpecError, match="is not a number above 0"):
        pruner.prune_to(budget)


@pytest.mark.parametrize("steps", [1, 6])
def test_trials_are_made_with_any_score_and_any_number_of_steps(steps: int) -> None:
    labels: set[str] = set()
    spec = PruneSpec(score="fisher", steps=steps, trials=2, judged=100, round_to=4)
    prune(tiny("bert"), BATCHES, 0.6, spec, progress=lambda label, *_: labels.add(label))
    assert "search" in labels


def test_fisher_scores_take_the_specs_temperature_seed_and_pooling() -> None:
    found = []
    changes = [{}, {"temperature": 50.0}, {"seed": 7}, {"pooling": Pooling(mode="cls")}]
    for change in changes:
        spec = PruneSpec(score="fisher", steps=1, repair=False, round_to=4, **change)  # type: ignore[arg-type]
        scores = prune(tiny("bert", head="plain"), BATCHES, 0.6, spec).scores
        assert scores is not None
        found.append(scores.neurons[0])
    # A representation has no softmax, so that its temperature changes nothing.
    assert np.array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])
    assert not np.allclose(found[0], found[3])
    spec = PruneSpec(score="fisher", steps=1, repair=False, round_to=4)
    cold, hot = (
        prune(tiny("bert"), BATCHES, 0.6, replace(spec, temperature=t)).scores for t in (1.0, 50.0)
    )
    assert cold is not None
    assert hot is not None
    assert not np.allclose(cold.neurons[0], hot.neurons[0])


def test_step_costs_fall_to_the_budget() -> None:
    costs = step_costs(1.0, 0.3, PruneSpec(steps=7))
    assert costs[-1] == pytest.approx(0.3)
    assert all(a > b for a, b in pairwise(costs))
    assert len(costs) == 7
    assert step_costs(1.0, 0.95, PruneSpec(steps=7)) == (0.95,)
    assert step_costs(1.0, 1.0, PruneSpec()) == ()


def test_forward_leaves_labels_aside() -> None:
    model = tiny("bert")
    assert torch.equal(forward(model, batch()), logits(model))


def test_targets_of_other_batches_are_refused() -> None:
    teacher, student = tiny("bert"), tiny("bert")
    plan = uneven(bind(teacher).shape)
    apply_(student, plan)
    teacher_targets = TeacherTargets(bind(teacher), BATCHES)
    repair_(bind(student), bind(teacher), plan, list(BATCHES[:1]), teacher_targets=teacher_targets)
    others = [batch(rows=8, seed=99)]
    with pytest.raises(DataError, match="not the first"):
        repair_(bind(student), bind(teacher), plan, others, teacher_targets=teacher_targets)
