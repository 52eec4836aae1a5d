"""Hashes by which a teacher, a tokenizer and data are known again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["data_hash", "fingerprint", "tokenizer_hash"]


def fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 of a model's weights, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of a tokenizer's vocabulary."""
    return hashlib.sha256(repr(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()


def data_hash(examples: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of token ids in their order: of texts, of where they are cut, and of how."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr(list(example["input_ids"])).encode())
    return digest.hexdigest()
