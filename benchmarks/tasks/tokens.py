"""From texts to token batches, sorted by length so that little is padding. Knows tokenizers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from benchmarks.tasks.dataset import Texts

__all__ = ["TokenBatch", "text_lengths", "tokenise"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenBatch:
    """A batch, and where its examples stood.

    Attributes:
        rows: Position of each example in the data, `(batch,)`.
        inputs: What the tokenizer gives, each `(batch, sequence)`, int64.
    """

    rows: NDArray[np.int64]
    inputs: dict[str, NDArray[np.int64]]


def tokenise(
    texts: Sequence[Texts],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int,
    max_length: int,
) -> Iterator[TokenBatch]:
    """Yield batches of examples of like length, shortest first, padded to their longest."""
    encoded = _encoded(texts, tokenizer, max_length)
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        picked = {name: [encoded[name][i] for i in rows] for name in encoded}
        padded = tokenizer.pad(picked, return_tensors="np")
        yield TokenBatch(
            rows=rows, inputs={name: values.astype(np.int64) for name, values in padded.items()}
        )


def text_lengths(
    texts: Sequence[Texts], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[int]:
    """Tokens of every example, special ones included."""
    return [len(ids) for ids in _encoded(texts, tokenizer, max_length)["input_ids"]]


def _encoded(texts: Sequence[Texts], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Any:
    columns = [list(column) for column in zip(*texts, strict=True)]
    return tokenizer(*columns, truncation=True, max_length=max_length)
