"""Every loss against its formula, written out with numpy, and blind to padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.distillation.losses import (
    attention_error,
    hidden_error,
    label_error,
    logit_divergence,
    logit_error,
    relation_divergence,
    scaled_products,
    selected_error,
)

ROWS, LENGTH, WIDTH = 3, 5, 8
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0]])


def states(width: int = WIDTH) -> Tensor:
    return torch.randn(ROWS, LENGTH, width)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_logit_divergence_is_hintons() -> None:
    student, teacher, heat = torch.randn(4, 3), torch.randn(4, 3), 3.0
    p, q = (softmax(x.numpy().astype(float) / heat) for x in (teacher, student))
    expected = heat**2 * (p * (np.log(p) - np.log(q))).sum(-1)
    np.testing.assert_allclose(logit_divergence(student, teacher, heat), expected, rtol=1e-4)


def test_logit_error_is_the_mean_square() -> None:
    student, teacher = torch.randn(4, 1), torch.randn(4, 1)
    expected = ((student - teacher) ** 2).squeeze(1)
    torch.testing.assert_close(logit_error(student, teacher), expected)


def test_label_error_is_cross_entropy_or_a_square() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    expected = -np.log(softmax(logits.numpy().astype(float)))[range(4), labels.numpy()]
    np.testing.assert_allclose(label_error(logits, labels), expected, rtol=1e-5)
    numbers = torch.randn(4)
    torch.testing.assert_close(
        label_error(logits[:, :1], numbers), (logits[:, 0] - numbers).square()
    )


def test_hidden_error_is_a_mean_over_features_and_real_tokens() -> None:
    student, teacher = states(), states()
    for row in range(ROWS):
        real = MASK[row].bool()
        expected = ((student[row, real] - teacher[row, real]) ** 2).mean()
        found = hidden_error(student, teacher, MASK)[row]
        torch.testing.assert_close(found, expected)


def test_selected_error_looks_at_the_chosen_places_alone() -> None:
    student, teacher = states(), states()
    tokens = torch.tensor([[0, 3], [2, -1], [1, 2]])
    feature_indices = torch.randint(0, WIDTH, (ROWS, 2, 3))
    values = torch.zeros(ROWS, 2, 3)
    for row in range(ROWS):
        for i, token in enumerate(tokens[row].tolist()):
            values[row, i] = teacher[row, token, feature_indices[row, i]]
    found = selected_error(student, values, tokens, feature_indices)
    for row in range(ROWS):
        squares = [
            float((student[row, t, p] - teacher[row, t, p]) ** 2)
            for i, t in enumerate(tokens[row].tolist())
            if t >= 0
            for p in feature_indices[row, i].tolist()
        ]
        assert float(found[row]) == pytest.approx(np.mean(squares), rel=1e-5)


def test_attention_error_is_tinyberts() -> None:
    student, teacher = torch.randn(2, ROWS, 2, LENGTH, LENGTH)
    found = attention_error(student, teacher, MASK)
    for row in range(ROWS):
        real = MASK[row].bool()
        squares = (student[row] - teacher[row])[:, real][:, :, real] ** 2
        torch.testing.assert_close(found[row], squares.mean())


def test_relations_are_minilms_and_free_of_widths() -> None:
    student, teacher, heads = states(8), states(12), 2
    found = relation_divergence(student, teacher, heads, MASK)
    for row in range(ROWS):
        real = MASK[row].bool().numpy()
        terms = []
        for head in range(heads):
            p, q = (
                softmax(x @ x.T / np.sqrt(x.shape[1]))
                for x in (
                    part[row].numpy().astype(float)[real].reshape(real.sum(), heads, -1)[:, head]
                    for part in (teacher, student)
                )
            )
            terms.append((p * (np.log(p) - np.log(q))).sum(-1).mean())
        assert float(found[row]) == pytest.approx(np.mean(terms), rel=1e-4)


def test_relations_have_finite_gradients_under_padding() -> None:
    student = states().requires_grad_()
    relation_divergence(student, states(), 2, MASK).sum().backward()
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())


def test_scaled_products_are_those_of_each_head() -> None:
    queries_per_kv_head, keys = states(), states()
    found = scaled_products(queries_per_kv_head, keys, 2)
    expected = queries_per_kv_head[0, :, 4:] @ keys[0, :, 4:].T / 2.0
    torch.testing.assert_close(found[0, 1], expected)


@pytest.mark.parametrize(
    "loss",
    [
        hidden_error,
        lambda s, t, m: relation_divergence(s, t, 2, m),
        lambda s, t, m: attention_error(scaled_products(s, s, 2), scaled_products(t, t, 2), m),
    ],
)
def test_what_is_in_padding_never_counts(loss) -> None:  # type: ignore[no-untyped-def]
    student, teacher = states(), states()
    before = loss(student, teacher, MASK)
    loud = torch.where(MASK[..., None] == 0, 100.0, student)
    torch.testing.assert_close(loss(loud, teacher, MASK), before)
    wide = [torch.cat([x, torch.randn(ROWS, 3, WIDTH)], 1) for x in (student, teacher)]
    longer = torch.cat([MASK, torch.zeros(ROWS, 3, dtype=MASK.dtype)], 1)
    torch.testing.assert_close(loss(*wide, longer), before)
