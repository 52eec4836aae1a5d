"""Structured OBS against brute force, the knapsack against enumeration, statistics against sums."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.model.batches import forward, sampled_fisher_loss
from compress.model.binding import bind
from compress.model.hooks import hooked
from compress.saliency import obs
from compress.saliency.obs import adjusted, covariance, removal_order
from compress.saliency.statistics import observe
from compress.search.knapsack import Item, choose
from tests.families import batch, tiny


def problem(columns: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A weight `(5, columns)`, a covariance and an output metric, all well away from trivial."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, columns, generator=generator, dtype=torch.float64)
    inputs = torch.randn(200, columns, generator=generator, dtype=torch.float64)
    inputs = inputs @ torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    half = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    eye = torch.eye(columns, dtype=torch.float64)
    return weight, inputs.T @ inputs / 200 + 0.01 * eye, half @ half.T


def least_harm(weight: Tensor, spread: Tensor, metric: Tensor, keep: list[int]) -> float:
    """``min tr(C ΔW S ΔWᵀ)`` over all ``ΔW`` that empty the other columns, by brute force."""
    change = -weight.clone()
    if keep:
        change[:, keep] += adjusted(weight, spread, torch.tensor(keep))
    return float((metric @ change @ spread @ change.T).trace())


@pytest.mark.parametrize(("columns", "width"), [(24, 1), (24, 4), (70, 1)])
def test_harm_is_that_of_the_best_adjustment(columns: int, width: int) -> None:
    weight, spread, metric = problem(columns)
    found = removal_order(weight, spread, metric, width)
    units = columns // width
    assert sorted(found.order.tolist()) == list(range(units))
    for gone in (1, 2, units // 2, units - 1, units):
        kept = sorted(set(range(units)) - set(found.order[:gone].tolist()))
        keep = [unit * width + i for unit in kept for i in range(width)]
        expected = least_harm(weight, spread, metric, keep)
        assert found.loss_increase[gone] == pytest.approx(expected, rel=1e-8)


def test_every_removal_is_the_cheapest_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obs, "_BLOCK", 3)
    weight, spread, metric = problem(12)
    found = removal_order(weight, spread, metric)
    alive = list(range(12))
    for step, column in enumerate(found.order.tolist()):
        loss_increases = {
            c: least_harm(weight, spread, metric, [a for a in alive if a != c]) for c in alive
        }
        assert column == min(loss_increases, key=loss_increases.__getitem__), step
        alive.remove(column)


def test_the_second_of_two_equal_units_becomes_dear() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 6, generator=generator, dtype=torch.float64)
    inputs[:, 1] = inputs[:, 0] + 1e-3 * inputs[:, 1]
    weight = torch.ones(3, 6, dtype=torch.float64)
    weight[:, :2] = 5.0
    found = removal_order(weight, inputs.T @ inputs / 500, torch.eye(3, dtype=torch.float64))
    first, *rest = found.order.tolist()
    assert first in (0, 1)
    assert rest[-1] == 1 - first


def test_adjusting_is_least_squares_on_the_kept_columns() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(300, 8)) @ generator.normal(size=(8, 8))
    weight, keep = generator.normal(size=(3, 8)), [0, 2, 5]
    expected, *_ = np.linalg.lstsq(inputs[:, keep], inputs @ weight.T, rcond=None)
    spread = torch.from_numpy(inputs.T @ inputs)
    found = adjusted(torch.from_numpy(weight), spread, torch.tensor(keep))
    assert np.allclose(found.numpy(), expected.T)


@pytest.mark.parametrize("centred", [True, False])
def test_covariance_takes_the_mean_out_only_where_a_bias_can(centred: bool) -> None:
    rows = torch.randn(50, 4, dtype=torch.float64) + 3.0
    joint = torch.cat([rows, torch.ones(50, 1, dtype=torch.float64)], dim=1)
    found = covariance(joint.T @ joint, 0.0, centred=centred)
    expected = torch.cov(rows.T, correction=0) if centred else rows.T @ rows / 50
    assert torch.allclose(found, expected)


items = st.lists(
    st.lists(
        st.tuples(st.integers(0, 30), st.floats(0, 9, allow_nan=False)), min_size=1, max_size=4
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(options=items, budget=st.integers(1, 60))
def test_the_knapsack_finds_what_enumeration_finds(
    options: list[list[tuple[int, float]]], budget: int
) -> None:
    found = choose(
        [
            Item(cost=np.array([float(c) for c, _ in o]), loss_increase=np.array([h for _, h in o]))
            for o in options
        ],
        float(budget),
        buckets=max(1, budget - sum(min(cost for cost, _ in o) for o in options)),
    )
    fitting = [
        sum(loss_increase for _, loss_increase in picks)
        for picks in product(*options)
        if sum(cost for cost, _ in picks) <= budget
    ]
    if not fitting:
        assert found is None
        return
    assert found is not None
    chosen = [o[i] for o, i in zip(options, found, strict=True)]
    assert sum(cost for cost, _ in chosen) <= budget
    assert sum(loss_increase for _, loss_increase in chosen) == pytest.approx(min(fitting))


def test_coarse_buckets_never_overspend() -> None:
    rng = np.random.default_rng(0)
    many = [Item(cost=rng.random(9), loss_increase=rng.random(9)) for _ in range(12)]
    budget = sum(float(item.cost.min()) for item in many) + 1e-9
    picks = choose(many, budget, buckets=5)
    assert picks is not None
    assert sum(float(i.cost[p]) for i, p in zip(many, picks, strict=True)) <= budget


def test_statistics_are_sums_over_real_tokens() -> None:
    model = tiny("bert")
    data, loss = batch(), sampled_fisher_loss(seed=3)
    found = observe(bind(model), [data], loss)
    moments = found.moments[1, "ffn"]
    layer, real = bind(model).layers[1], data["attention_mask"].bool()
    seen: dict[str, Tensor] = {}
    with (
        hooked(layer, "neurons", lambda x: seen.update(inputs=x.detach())),
        hooked(layer, "ffn", lambda x: seen.update(outputs=x)),
    ):
        total = sampled_fisher_loss(seed=3)(forward(model, data), data)
        (gradient,) = torch.autograd.grad(total, seen["outputs"])
    rows = seen["inputs"][real]
    assert torch.allclose(moments.inputs[:-1, :-1], rows.T @ rows, atol=1e-4)
    assert torch.allclose(moments.inputs[-1, :-1], rows.sum(0), atol=1e-4)
    assert torch.allclose(moments.outputs, gradient[real].T @ gradient[real], atol=1e-5)
    assert (found.sequences, found.tokens) == (4, int(real.sum()))


def test_statistics_do_not_grow_with_the_data() -> None:
    model = bind(tiny("bert"))
    sizes = [
        sum(m.inputs.numel() + m.outputs.numel() for m in found.moments.values())
        for found in (observe(model, [batch()] * n, sampled_fisher_loss()) for n in (1, 5))
    ]
    assert sizes[0] == sizes[1]


def test_statistics_leave_no_gradient_and_no_hook() -> None:
    model = tiny("bert")
    observe(bind(model), [batch()], sampled_fisher_loss())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
