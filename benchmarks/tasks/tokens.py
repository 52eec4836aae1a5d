"""From texts to token batches, sorted by length so that little is padding. Knows tokenizers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from benchmarks.tasks.dataset import Texts

__all__ = ["Encoded", "TokenBatch", "text_lengths", "tokenise"]


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
    encoded = Encoded(texts, tokenizer, max_length)
    order = np.argsort(encoded.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield TokenBatch(rows=rows, inputs=encoded.batch(rows.tolist()))


def text_lengths(
    texts: Sequence[Texts], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[int]:
    """Tokens of every example, special ones included."""
    return [int(length) for length in Encoded(texts, tokenizer, max_length).lengths]


class Encoded:
    """Examples as token ids, to be padded to a batch in any order.

    Args:
        texts: One entry an example.
        tokenizer: Of the model.
        max_length: Tokens at which texts are cut.
    """

    def __init__(
        self, texts: Sequence[Texts], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> None:
        columns = [list(column) for column in zip(*texts, strict=True)]
        self._encoded = tokenizer(*columns, truncation=True, max_length=max_length)
        self._tokenizer = tokenizer
        self.lengths: NDArray[np.int64] = np.array([len(x) for x in self._encoded["input_ids"]])

    def batch(self, rows: Sequence[int]) -> dict[str, NDArray[np.int64]]:
        """Those examples, padded to the longest of them: each `(batch, sequence)`, int64."""
        picked = {name: [column[i] for i in rows] for name, column in self._encoded.items()}
        padded = self._tokenizer.pad(picked, return_tensors="np")
        return {name: values.astype(np.int64) for name, values in padded.items()}
