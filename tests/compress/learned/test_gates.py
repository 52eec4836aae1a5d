"""Formulas of the learnt masks, held against sampling, the papers' equations and what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from compress.errors import BudgetError, CheckpointError
from compress.learned import (
    AdaptGate,
    AdaptSpec,
    BitMasks,
    Descent,
    FixedMasks,
    HardConcreteGate,
    HardConcreteSpec,
    MaskSpec,
    MovementGate,
    MovementSpec,
    Pace,
    SubsetGate,
    SubsetSpec,
    UnitGate,
    WeightMasks,
    learn_masks,
    ranked_masks,
    wearing,
)
from compress.learned.adapt import open_gate
from compress.learned.gate import plan_by_rank
from compress.learned.hard_concrete import probability_open, sample
from compress.learned.subset import soft_top_k
from compress.learned.unstructured import weight_slots
from compress.model.batches import forward, label_loss
from compress.model.binding import bind
from compress.model.masking import masked
from compress.model.surgery import apply_
from compress.plan.cost import CostModel
from compress.plan.plan import EncoderShape
from tests.families import FAMILIES, batch, logits, tiny

MACS = CostModel(unit="macs", sequence=11)
STEPS = 12


def gates_of(shape: EncoderShape) -> dict[str, UnitGate]:
    descent = Descent(steps=STEPS, pull=0.3)
    return {
        "adapt": AdaptGate(shape, AdaptSpec(share=0.5, cost=MACS, descent=descent, round_to=4)),
        "subset": SubsetGate(shape, SubsetSpec(n_heads=5)),
        "hard-concrete": HardConcreteGate(
            shape, HardConcreteSpec(share=0.5, cost=MACS, round_to=4)
        ),
        "movement": MovementGate(shape, MovementSpec(share=0.5, cost=MACS, round_to=4)),
    }


@pytest.mark.parametrize("kind", ["adapt", "subset", "hard-concrete", "movement"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_gate_ends_in_a_plan_that_surgery_takes(family: str, kind: str) -> None:
    model = tiny(family)
    layout = bind(model)
    before = {name: p.clone() for name, p in model.named_parameters()}
    gate = gates_of(layout.shape)[kind]
    rows = learn_masks(layout, [batch(), batch(seed=1)], label_loss, gate, MaskSpec(steps=STEPS))
    plan = gate.plan()
    assert rows
    assert all(torch.isfinite(torch.tensor(row["loss"])) for row in rows)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    if kind == "subset":
        assert sum(plan.student_shape.n_heads) == 5
    else:
        assert MACS.total(plan.student_shape) <= 0.5 * MACS.total(plan.shape)
    with masked(layout, plan):
        behind = logits(model)
    apply_(model, plan)
    torch.testing.assert_close(logits(model), behind, atol=2e-5, rtol=1e-4)


def test_subset_factors_add_up_to_k_and_harden_to_the_top_k() -> None:
    scores = torch.randn(20)
    for heat in (1000.0, 1.0, 0.1):
        factors = soft_top_k(scores, 7, heat)
        assert factors.sum() == pytest.approx(7, abs=1e-3)
        assert factors.min() >= 0
    hard = soft_top_k(scores, 7, 1e-6)
    assert set(hard.topk(7).indices.tolist()) == set(scores.topk(7).indices.tolist())
    torch.testing.assert_close(hard.topk(7).values, torch.ones(7), atol=1e-3, rtol=0)


@pytest.mark.parametrize("spread", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("heat", [1000.0, 1.0, 1e-3, 1e-8])
def test_subset_factors_are_k_ones_once_it_is_cold(spread: float, heat: float) -> None:
    scores = (spread * torch.randn(24)).requires_grad_()
    factors = soft_top_k(scores, 9, heat)
    assert float(factors.detach().sum()) == pytest.approx(9, abs=1e-4)
    if heat == 1e-8:
        expected = torch.zeros(24)
        expected[scores.detach().topk(9).indices] = 1.0
        torch.testing.assert_close(factors.detach(), expected)
    factors.square().sum().backward()
    assert scores.grad is not None
    assert bool(torch.isfinite(scores.grad).all())


@pytest.mark.parametrize("n_heads", [12, 40])
def test_subset_of_more_heads_than_there_are_is_refused(n_heads: int) -> None:
    with pytest.raises(BudgetError, match="1 to 11"):
        SubsetGate(bind(tiny("bert")).shape, SubsetSpec(n_heads=n_heads))


def test_hard_concrete_probability_is_what_sampling_gives() -> None:
    generator = torch.Generator().manual_seed(0)
    alpha = torch.tensor([-3.0, -1.0, 0.0, 0.5, 2.0])
    drawn = torch.stack([sample(alpha, generator) for _ in range(20_000)])
    torch.testing.assert_close(
        (drawn > 0).float().mean(0), probability_open(alpha), atol=0.015, rtol=0
    )
    assert (drawn == 0).any()
    assert (drawn == 1).any()


def test_expected_size_is_what_sampling_gives() -> None:
    shape = bind(tiny("bert")).shape
    gate = HardConcreteGate(shape, HardConcreteSpec(share=0.5, cost=MACS, start=0.0))
    total = 0.0
    n = 2000
    for _ in range(n):
        values = gate.values(0.0)
        for i in range(shape.n_layers):
            total += MACS.head(shape, i) * float((values.heads[i] > 0).sum())
            total += MACS.neuron(shape, i) * float((values.neurons[i] > 0).sum())
    assert gate.kept() == pytest.approx(total / n / MACS.total(shape), rel=0.03)


def test_lagrangian_reaches_the_size_that_is_asked_for() -> None:
    shape = bind(tiny("bert")).shape
    gate = HardConcreteGate(shape, HardConcreteSpec(share=0.4, cost=MACS))
    optimizer = gate.optimizer()
    for step in range(600):
        optimizer.zero_grad()
        gate.penalty(step / 600).backward()
        optimizer.step()
    assert gate.kept() == pytest.approx(0.4, abs=0.05)


def test_adapting_moves_as_the_paper_says() -> None:
    shape = bind(tiny("bert")).shape
    spec = AdaptSpec(
        share=0.5, cost=MACS, descent=Descent(steps=100, learning_rate=0.03), units=("neurons",)
    )
    gate = AdaptGate(shape, spec)
    optimizer = gate.optimizer()
    theta = gate.neurons[1].detach().clone()
    optimizer.zero_grad()
    pull = torch.randn(shape.ffn_widths[1])
    (gate.values(0.0).neurons[1] * pull).sum().backward()
    optimizer.step()
    gate.moved(0.01)
    soft = theta.sigmoid()
    expected = theta - 0.03 * pull * soft * (1 - soft) - spec.descent.decay
    torch.testing.assert_close(gate.neurons[1].detach(), expected)


def test_gates_are_hard_forward_and_soft_backward() -> None:
    theta = torch.tensor([-0.01, -1e-3, 1e-3, 0.01], requires_grad=True)
    factors = open_gate(theta)
    torch.testing.assert_close(factors.detach(), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    factors.sum().backward()
    assert theta.grad is not None
    torch.testing.assert_close(theta.grad, torch.full((4,), 0.25), atol=1e-4, rtol=0)


def test_adapting_ends_at_the_share_that_is_asked_for() -> None:
    layout = bind(tiny("bert"))
    descent = Descent(steps=50)
    gate = AdaptGate(layout.shape, AdaptSpec(share=0.6, cost=MACS, descent=descent, round_to=1))
    rows = learn_masks(layout, [batch()], label_loss, gate, MaskSpec(steps=200))
    assert rows[-1]["step"] < 200
    assert rows[-1]["kept"] <= 0.6


def test_movement_gives_scores_the_gradient_of_the_mask() -> None:
    shape = bind(tiny("bert")).shape
    gate = MovementGate(shape, MovementSpec(share=0.5, cost=MACS))
    pull = torch.randn(shape.n_heads[0])
    (gate.values(1.0).heads[0] * pull).sum().backward()
    torch.testing.assert_close(gate.heads[0].grad, pull)


@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "xlnet", "modernbert", "deberta"])
def test_weight_masks_leave_the_backbone_to_the_bit(family: str) -> None:
    model = tiny(family)
    layout = bind(model)
    whole = {name: p.clone() for name, p in model.named_parameters()}
    gate = WeightMasks(layout, 0.5, Descent(steps=8))
    learn_masks(layout, [batch()], label_loss, gate, MaskSpec(steps=10))
    found = dict(model.named_parameters())
    assert found.keys() == whole.keys()
    assert all(torch.equal(p, whole[name]) for name, p in found.items())
    masks = gate.masks()
    assert masks.keys() == weight_slots(layout).keys()
    kept = sum(int(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())
    assert kept == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("family", ["bert", "albert", "xlnet"])
def test_paced_masks_close_by_the_schedule_and_follow_gradients(family: str) -> None:
    layout, pace, steps = bind(tiny(family)), Pace(bound=0.5), 20
    gate = WeightMasks(layout, 0.4, pace)
    before = [theta.detach().clone() for theta in gate.thetas]
    pushed = [torch.randn_like(theta) for theta in gate.thetas]
    for step in range(1, steps + 1):
        for theta, gradient in zip(gate.thetas, pushed, strict=True):
            theta.grad = gradient.clone()
        gate.moved(step / steps)
        assert gate.kept() == pytest.approx(pace.open_share(step / steps, 0.4), abs=0.005)
    for theta, first, gradient in zip(gate.thetas, before, pushed, strict=True):
        moved = (theta.detach() - first).flatten()
        assert torch.corrcoef(torch.stack([moved, gradient.flatten()]))[0, 1] < -0.8
        assert (moved.max() - moved.min()) <= 2 * 0.5 * 0.001 * steps + 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_several_tasks_are_served_from_one_backbone(family: str, tmp_path: Path) -> None:
    model = tiny(family)
    layout = bind(model)
    alone = logits(model)
    masks = ranked_masks(layout, "random", 0.3, [], label_loss)
    name = [n for n, p in model.named_parameters() if p.ndim == 2 and n not in masks][-1]
    own = {name: torch.randn_like(dict(model.named_parameters())[name])}
    BitMasks(kept=masks, own=own).save(tmp_path / "task.safetensors")
    task = BitMasks.load(tmp_path / "task.safetensors")
    assert task.share == pytest.approx(0.3, abs=1e-3)
    with wearing(model, task):
        worn = logits(model)
        for parameter, mask in masks.items():
            assert not dict(model.named_parameters())[parameter][~mask].any()
    assert not torch.allclose(worn, alone)
    assert torch.equal(logits(model), alone)


def test_masks_of_another_model_are_refused() -> None:
    masks = ranked_masks(bind(tiny("bert")), "magnitude", 0.5, [], label_loss)
    with (
        pytest.raises(CheckpointError, match="name the backbone"),
        wearing(tiny("bert", intermediate_size=48), BitMasks(kept=masks, own={})),
    ):
        pass


def test_a_file_that_holds_no_masks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="must hold bit masks"):
        BitMasks.load(tmp_path / "x.safetensors")


def test_weight_importance_is_weight_times_gradient() -> None:
    model = tiny("bert")
    layout = bind(model)
    data = [batch(), batch(seed=1)]
    masks = ranked_masks(layout, "importance", 0.4, data, label_loss)
    model.zero_grad()
    for part in data:
        label_loss(forward(model, part), part).backward()
    values = {n: (p * p.grad).abs().detach() for n, p in model.named_parameters() if n in masks}
    least = min(float(values[n][m].min()) for n, m in masks.items() if m.any())
    most = max(float(values[n][~m].max()) for n, m in masks.items() if not m.all())
    assert most <= least * 1.001


def test_a_head_is_trained_behind_masks_that_stand() -> None:
    model = tiny("bert")
    layout = bind(model)
    masks = ranked_masks(layout, "magnitude", 0.5, [], label_loss)
    whole = {name: p.clone() for name, p in model.named_parameters()}
    head = list(model.classifier.parameters())
    rows = learn_masks(
        layout,
        [batch()],
        label_loss,
        FixedMasks(masks),
        MaskSpec(steps=60, learning_rate=0.05),
        trained=head,
    )
    assert rows[-1]["loss"] < rows[0]["loss"]
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, whole[n])}
    assert changed == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("values", ["equal", "zeros and ones", "negative"])
def test_equal_values_use_the_budget(share: float, values: str) -> None:
    shape = bind(tiny("bert")).shape
    generator = np.random.default_rng(0)
    draw = {
        "equal": lambda n: np.full(n, 0.3),
        "zeros and ones": lambda n: generator.integers(0, 2, n).astype(float),
        "negative": lambda n: generator.normal(-5.0, 1.0, n),
    }[values]
    heads, neurons = ([draw(n) for n in sizes] for sizes in (shape.n_heads, shape.ffn_widths))
    plan = plan_by_rank("x", heads, neurons, shape, MACS, share, ("heads", "neurons"), 4)
    kept = MACS.total(plan.student_shape) / MACS.total(shape)
    assert share - 0.1 < kept <= share
