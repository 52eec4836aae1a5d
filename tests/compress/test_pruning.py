"""Repair against brute-force least squares, and the whole of pruning on every family."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch

from compress.architectures import architecture_for
from compress.errors import BudgetError, CheckpointError, DataError, SpecError
from compress.model.batches import forward
from compress.model.binding import bind
from compress.model.surgery import apply_
from compress.plan.cost import CostModel
from compress.plan.plan import Plan
from compress.plan.stock_config import stock_attributes
from compress.pruner.prune import PruneSpec, prune, schedule
from compress.repair.least_squares import TeacherTargets, repair_, solve_damped
from compress.saliency.scorers import SCORE_NAMES
from tests.families import FAMILIES, batch, keeping, logits, tiny, uneven

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


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("score", SCORE_NAMES)
def test_pruning_meets_its_budget_and_leaves_the_teacher_alone(family: str, score: str) -> None:
    model = tiny(family)
    before = logits(model)
    cost = CostModel(unit="macs", sequence=12)
    spec = PruneSpec(share=0.5, cost=cost, score=score, steps=2, multiple=4)  # type: ignore[arg-type]
    pruned = prune(model, BATCHES, spec)
    assert cost.total(bind(pruned.model).shape) <= 0.5 * cost.total(bind(model).shape)
    assert bind(pruned.model).shape.fits(pruned.plan.student_shape)
    assert torch.equal(logits(model), before)
    assert torch.isfinite(logits(pruned.model)).all()


def test_same_seed_gives_the_same_student() -> None:
    spec = PruneSpec(share=0.4, steps=2, multiple=4, seed=5)
    one, two = (prune(tiny("bert"), BATCHES, spec) for _ in range(2))
    assert one.plan == two.plan
    assert torch.equal(logits(one.model), logits(two.model))


def test_dropping_layers_counts_towards_the_target() -> None:
    spec = PruneSpec(share=0.7, drop=1, steps=1, multiple=4)
    pruned = prune(tiny("bert"), BATCHES, spec)
    assert [layer.source for layer in pruned.plan.layers] == [0, 1]
    assert stock_attributes(architecture_for("bert"), pruned.plan) is not None


def test_a_share_of_one_keeps_everything() -> None:
    model = tiny("bert")
    pruned = prune(model, BATCHES, PruneSpec(share=1.0, steps=1))
    assert torch.allclose(logits(pruned.model), logits(model), atol=1e-5)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(SpecError, match=r"PruneSpec\.share: .* is not above 0 and at most 1"):
        PruneSpec(share=share)


def test_unreachable_share_names_the_smallest() -> None:
    cost = CostModel(unit="macs", sequence=12)
    spec = PruneSpec(share=0.2, cost=cost, units=("heads",))
    with pytest.raises(BudgetError, match=r"at least 0\.\d+, the smallest that removing heads"):
        prune(tiny("bert"), BATCHES, spec)


def test_model_with_broken_logits_is_refused() -> None:
    model = tiny("bert")
    with torch.no_grad():
        model.classifier.weight.fill_(1e38)
        model.classifier.bias.fill_(3e38)
    with pytest.raises(CheckpointError, match="NaN or Inf on the first calibration batch"):
        prune(model, BATCHES, PruneSpec(share=0.5))


def test_schedule_falls_to_the_share() -> None:
    shares = schedule(0.3, 7)
    assert shares[-1] == pytest.approx(0.3)
    assert all(a > b for a, b in pairwise(shares))


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
