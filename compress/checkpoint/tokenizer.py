"""Tokenizers on disk. Knows no model."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerBase

__all__ = ["save_tokenizer"]


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer's files, without the cutting and padding that its last call has set.

    transformers keeps those in the fast tokenizer itself, so that `tokenizer.json` would depend on
    what was encoded last, and cut texts for whoever reads it next.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    tokenizer.save_pretrained(folder)
