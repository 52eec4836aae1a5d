"""Calibration batches from what people have: texts, a `datasets.Dataset`, a `DataLoader`.

Knows tokenizers and tensors; must not know tasks, files or scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compress.errors import DataError
from compress.model.batches import Batch

__all__ = ["calibration_batches"]

Text: TypeAlias = str | tuple[str, str]
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_LABELS = ("labels", "label")


def calibration_batches(
    data: Any,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    text: str | Sequence[str] = "text",
    label: str | None = None,
    batch_size: int = 32,
    max_length: int = 128,
    examples: int = 2048,
    seed: int = 0,
) -> list[Batch]:
    """Batches that `prune`, `Pruner` and the scores take. They stay on the CPU until used.

    Args:
        data: A sequence of texts or of pairs of texts; a `datasets.Dataset`, or any other sequence
            of mappings, with the columns `text` and `label` or with `input_ids`; or an iterable of
            batches, such as a `DataLoader`, that map names to tensors of `(batch, sequence)`.
        tokenizer: The model's tokenizer. Batches of tensors need none.
        text: Column of the text, or two columns of a pair.
        label: Column of whole numbers, for scores that read labels. Default: none is read; batches
            of tensors keep their `labels`.
        batch_size: Examples in a batch.
        max_length: Tokens at which texts are cut.
        examples: Most examples, drawn at random. Default 2,048, which the defaults were tuned on.
        seed: Seed of the drawing and of the batches' order.

    Returns:
        Batches of examples of similar length, in random order: `input_ids`, `attention_mask` and
        what else the tokenizer gives, each `(batch, sequence)` int64, and `labels` where asked for.

    Raises:
        DataError: There is nothing in `data`, a column is missing, or texts come without tokenizer.
    """
    if _gives_batches(data):
        return [_as_batch(batch, index) for index, batch in enumerate(data)]
    count = len(data)
    if not count:
        raise DataError("calibration data must hold an example or more, found none")
    if tokenizer is None:
        raise DataError("texts need the model's tokenizer; give `tokenizer`, or batches of tensors")
    generator = np.random.default_rng(seed)
    rows = generator.permutation(count)[:examples].tolist()
    encoded = [_encoded(data[i], i, tokenizer, text, max_length) for i in rows]
    labels = None if label is None else [_column(data[i], i, label) for i in rows]
    order = sorted(range(len(rows)), key=lambda i: len(encoded[i]["input_ids"]))
    batches: list[Batch] = []
    for start in range(0, len(order), batch_size):
        picked = order[start : start + batch_size]
        batch = _padded([encoded[i] for i in picked], tokenizer)
        if labels is not None:
            batch["labels"] = torch.tensor([labels[i] for i in picked])
        batches.append(batch)
    return [batches[i] for i in generator.permutation(len(batches))]


def _gives_batches(data: Any) -> bool:
    """Whether items are whole batches: data that cannot be indexed, or mappings of 2-d tensors."""
    if not isinstance(data, Iterable):
        raise DataError(f"calibration data must be a sequence or iterable, found {type(data)!r}")
    if not isinstance(data, Sized) or not hasattr(data, "__getitem__"):
        return True
    first = data[0] if len(data) else None
    ids = first.get("input_ids") if isinstance(first, Mapping) else None
    return isinstance(ids, Tensor) and ids.ndim > 1


def _as_batch(batch: Any, index: int) -> Batch:
    if not isinstance(batch, Mapping) or "input_ids" not in batch:
        raise DataError(
            f"batch {index}: found {type(batch).__name__}, and a mapping with 'input_ids' is needed"
        )
    found = {name: batch[name] for name in _INPUTS if name in batch}
    found.setdefault("attention_mask", torch.ones_like(found["input_ids"]))
    labels = next((batch[name] for name in _LABELS if name in batch), None)
    return found if labels is None else found | {"labels": labels}


def _encoded(
    item: Any, index: int, tokenizer: PreTrainedTokenizerBase, text: str | Sequence[str], limit: int
) -> dict[str, list[int]]:
    if isinstance(item, Mapping) and "input_ids" in item:
        return {name: list(item[name])[:limit] for name in _INPUTS if name in item}
    if isinstance(item, Mapping):
        columns = [text] if isinstance(text, str) else list(text)
        parts = tuple(_column(item, index, column) for column in columns)
    else:
        parts = (item,) if isinstance(item, str) else tuple(item)
    return dict(tokenizer(*parts, truncation=True, max_length=limit))


def _column(item: Any, index: int, name: str) -> Any:
    if not isinstance(item, Mapping) or name not in item:
        found = sorted(map(str, item)) if isinstance(item, Mapping) else type(item).__name__
        raise DataError(f"example {index}: no column {name!r}, found {found}")
    return item[name]


def _padded(
    rows: list[dict[str, list[int]]], tokenizer: PreTrainedTokenizerBase
) -> dict[str, Tensor]:
    names = [name for name in _INPUTS if name in rows[0]]
    columns = {name: [row[name] for row in rows] for name in names}
    padded = tokenizer.pad(columns, return_tensors="pt")
    return {name: values.long() for name, values in padded.items()}
