"""Calibration batches from texts, pairs, data sets and loaders, and pruning on them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from compress import PruneSpec, calibration_batches, prune
from compress.errors import DataError
from export.graph.reference_texts import PROSE
from tests.families import batch, tiny
from tests.tokenizer import tiny_tokenizer

PAIRS = list(zip(PROSE[:10], PROSE[10:20], strict=True))
ROWS = [{"sentence": text, "other": PROSE[0], "label": i % 3} for i, text in enumerate(PROSE)]


@pytest.mark.parametrize(
    ("data", "options", "labelled"),
    [
        (list(PROSE), {}, False),
        (PAIRS, {}, False),
        (ROWS, {"text": "sentence", "label": "label"}, True),
        (ROWS, {"text": ("sentence", "other")}, False),
        (Dataset.from_list(ROWS), {"text": "sentence", "label": "label"}, True),
        (Dataset.from_list([{"input_ids": [2, 7, 8, 3], "attention_mask": [1] * 4}]), {}, False),
    ],
)
def test_every_example_is_in_one_batch_and_padded_by_the_tokenizer(
    data: Any, options: dict[str, Any], labelled: bool
) -> None:
    tokenizer = tiny_tokenizer("bert")
    found = calibration_batches(data, tokenizer, batch_size=4, max_length=24, **options)
    assert sum(len(b["input_ids"]) for b in found) == len(data)
    for each in found:
        assert each["input_ids"].shape == each["attention_mask"].shape
        assert each["input_ids"].shape[1] <= 24
        assert each["input_ids"].dtype == torch.int64
        assert ("labels" in each) is labelled
        hidden = each["attention_mask"] == 0
        assert bool((each["input_ids"][hidden] == tokenizer.pad_token_id).all())


def test_a_loaders_batches_are_taken_as_they_are() -> None:
    whole = batch(rows=12)
    rows = [{name: values[i] for name, values in whole.items()} for i in range(12)]
    found = calibration_batches(DataLoader(rows, batch_size=5))
    assert [len(b["input_ids"]) for b in found] == [5, 5, 2]
    assert torch.equal(torch.cat([b["input_ids"] for b in found]), whole["input_ids"])
    assert all("labels" in b for b in found)


def test_examples_are_drawn_by_the_seed_and_models_are_pruned_on_them() -> None:
    tokenizer = tiny_tokenizer("bert")
    one, same, other = (
        calibration_batches(list(PROSE), tokenizer, examples=12, batch_size=4, seed=s)
        for s in (0, 0, 1)
    )
    assert all(torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(one, same, strict=True))
    assert [b["input_ids"].tolist() for b in one] != [b["input_ids"].tolist() for b in other]
    pruned = prune(tiny("bert"), one, 0.5, PruneSpec(score="fisher", steps=1, round_to=4))
    assert sum(pruned.plan.student_shape.ffn_widths) < 3 * 40


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([], {}, "must hold an example"),
        (5, {}, "must be a sequence"),
        (ROWS, {}, "example .*: no column 'text', found"),
        (ROWS, {"text": "sentence", "label": "gold"}, "no column 'gold'"),
        (iter(["a"]), {}, "batch 0: found str"),
    ],
)
def test_what_is_no_data_is_named(data: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        calibration_batches(data, tiny_tokenizer("bert"), **options)


def test_texts_want_a_tokenizer() -> None:
    with pytest.raises(DataError, match="`tokenizer`"):
        calibration_batches(["a text"])
