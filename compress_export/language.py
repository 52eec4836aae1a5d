"""Running text for masked language modelling: files to blocks of tokens to batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerBase

from compress.errors import DataError
from compress.model.batches import Batch

__all__ = ["Block", "blocks_of", "held_out", "masked_batches", "masking", "read_lines"]

Block = dict[str, list[int]]
"""`input_ids` and `attention_mask` of one block."""


def read_lines(source: Path) -> list[str]:
    """The lines of a text file, or of all `.txt` files under a folder, empty ones left out.

    Raises:
        DataError: There are none, or one is no text.
    """
    files = sorted(source.rglob("*.txt")) if source.is_dir() else [source]
    lines: list[str] = []
    for file in files:
        try:
            lines += file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"--texts must be a UTF-8 text file or a folder of .txt files, found: {error}; "
                "correct it"
            ) from error
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        raise DataError(
            f"--texts must hold text, found none in {str(source)!r}; name a file, or a folder of "
            ".txt files"
        )
    return lines


def blocks_of(lines: Sequence[str], tokenizer: PreTrainedTokenizerBase, length: int) -> list[Block]:
    """Lines joined and cut into blocks of `length` tokens, special ones included.

    Raises:
        DataError: The tokenizer has no mask token, or there is not one block of text.
    """
    if tokenizer.mask_token_id is None:
        raise DataError(
            f"masked language modelling needs a mask token, found none in the tokenizer "
            f"{type(tokenizer).__name__}; use the one that the encoder was pre-trained with"
        )
    before, after = _special(tokenizer)
    own = length - len(before) - len(after)
    encoded = tokenizer(list(lines), add_special_tokens=False)["input_ids"]
    flat = [token for ids in encoded for token in ids]
    starts = range(0, len(flat) - own + 1, own)
    if not starts:
        raise DataError(
            f"--texts must hold {own} tokens at least, found {len(flat)}; add text, or lower "
            "--max-length"
        )
    return [
        {"input_ids": [*before, *flat[i : i + own], *after], "attention_mask": [1] * length}
        for i in starts
    ]


def masking(tokenizer: PreTrainedTokenizerBase) -> DataCollatorForLanguageModeling:
    """Masks 15 % of the tokens, as BERT's pre-training did, drawn from torch's generator."""
    return DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)


def masked_batches(
    blocks: Sequence[Block], tokenizer: PreTrainedTokenizerBase, batch_size: int, seed: int
) -> list[Batch]:
    """Batches with `labels`, the same masks each time."""
    collate = masking(tokenizer)
    parts = [blocks[i : i + batch_size] for i in range(0, len(blocks), batch_size)]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return [_tensors(collate([dict(block) for block in part])) for part in parts]


def held_out(blocks: Sequence[Block]) -> tuple[list[Block], list[Block]]:
    """Blocks to learn and score from, and a twentieth, 256 at most, to judge by.

    The same of the same blocks in every command, so that nothing is judged by what it learnt from.

    Raises:
        DataError: There is one block alone.
    """
    if len(blocks) < 2:
        raise DataError(
            f"--texts must hold two blocks of text at least, one to judge by, found {len(blocks)}; "
            "add text, or lower --max-length"
        )
    order = np.random.default_rng(0).permutation(len(blocks)).tolist()
    n_held = max(1, min(256, len(blocks) // 20))
    return [blocks[i] for i in order[n_held:]], [blocks[i] for i in order[:n_held]]


def _tensors(batch: dict[str, Tensor]) -> Batch:
    return {name: values.to(torch.int64) for name, values in batch.items()}


def _special(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    found = tokenizer("a", return_special_tokens_mask=True)
    ids, special = found["input_ids"], found["special_tokens_mask"]
    inside = [i for i, flag in enumerate(special) if not flag]
    return list(ids[: inside[0]]), list(ids[inside[-1] + 1 :])
