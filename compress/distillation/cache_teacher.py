"""Run a teacher once over all examples, and keep what a student will need of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compress.distillation.cache_spec import choose_features, choose_tokens
from compress.distillation.signals import Signals, capture
from compress.distillation.teacher_cache import (
    SHARD,
    CachedExample,
    CacheMetadata,
    shard_name,
    write_shard,
)
from compress.errors import CheckpointError, DataError, TrainingError
from compress.model.batches import Progress, frozen, silent
from compress.model.binding import bind
from compress.model.layout import Layout
from compress.model.task_head import likelihood_of
from compress.training.processes import is_main, this_worker, wait_for_all
from compress.training.trainer import Examples

__all__ = ["cache_teacher"]

_BATCH = 32
_SPARE = 0.95
"""Share of the free disk that a store may take."""


def cache_teacher(
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    metadata: CacheMetadata,
    folder: Path,
    progress: Progress = silent,
) -> None:
    """Write a store; parts that are there already are left as they are.

    Where several processes were started, each writes its own parts.

    Args:
        teacher: Run once on every example, on this process's device.
        tokenizer: Pads the batches, and says what a separator is.
        examples: Examples, in the order in which rows are read later.
        metadata: The store's metadata.
        folder: Exists; of this store alone.
        progress: Called after every batch.

    Raises:
        DataError: The disk has no room for the store.
        CheckpointError: The teacher is a multi-label classifier.
        TrainingError: A hidden state or logit is not finite, or too large for float16.
    """
    if likelihood_of(teacher) == "bernoulli":
        raise CheckpointError(
            "a store takes one class for each text, found a multi-label teacher; run the teacher "
            "beside its student instead"
        )
    lengths = [len(example["input_ids"]) for example in examples]
    there = sum(path.stat().st_size for path in folder.glob("*.arrow"))
    worker = this_worker()
    _check_room(folder, metadata.n_bytes(lengths) - there)
    layout = bind(teacher)
    implementation = teacher.config._attn_implementation
    if _asks(metadata):
        teacher.set_attn_implementation("eager")  # others give no attention
    try:
        with frozen(teacher), torch.no_grad():
            teacher.to(worker.device)  # type: ignore[arg-type]
            for start in range(worker.rank * SHARD, len(examples), worker.count * SHARD):
                path = folder / shard_name(start)
                if not path.is_file():
                    some = examples[start : start + SHARD]
                    _write(layout, tokenizer, some, metadata, path, start)
                progress("teacher", min(start + SHARD, len(examples)), len(examples))
    finally:
        teacher.set_attn_implementation(implementation)
        teacher.to("cpu")  # type: ignore[arg-type]
    wait_for_all()
    if is_main():
        metadata.save(folder)
    wait_for_all()


def _write(
    layout: Layout,
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    metadata: CacheMetadata,
    path: Path,
    start: int,
) -> None:
    order = np.argsort([len(example["input_ids"]) for example in examples], kind="stable")
    logits = np.zeros((len(examples), metadata.n_labels), np.float32)
    kept: list[list[CachedExample | None]] = [[None] * len(examples) for _ in metadata.pairs]
    generator = torch.Generator().manual_seed(metadata.spec.seed + start)
    for first in range(0, len(order), _BATCH):
        rows = order[first : first + _BATCH].tolist()
        inputs = [{k: v for k, v in examples[i].items() if k != "labels"} for i in rows]
        padded = tokenizer.pad(inputs, return_tensors="pt")
        batch = {name: values.to(layout.model.device) for name, values in padded.items()}
        signals = capture(layout, batch, attentions=_asks(metadata))
        logits[rows] = _finite(signals.logits, path)
        for pair, of_batch in enumerate(
            _chosen(signals, batch, metadata, tokenizer, generator, path)
        ):
            for row, found in zip(rows, of_batch, strict=True):
                kept[pair][row] = found
    whole = [[k for k in of_pair if k is not None] for of_pair in kept]
    write_shard(path, metadata, logits, whole)


def _asks(metadata: CacheMetadata) -> bool:
    """Whether attention is wanted of the teacher."""
    spec = metadata.spec
    return bool(metadata.pairs) and spec.tokens == "attention" and spec.max_tokens is not None


def _chosen(
    signals: Signals,
    batch: dict[str, Tensor],
    metadata: CacheMetadata,
    tokenizer: PreTrainedTokenizerBase,
    generator: torch.Generator,
    path: Path,
) -> Iterator[list[CachedExample]]:
    """By pair of layers, what is kept of each example of the batch."""
    separators = batch["input_ids"] == (tokenizer.sep_token_id or -1)
    for _, layer in metadata.pairs:
        attention = signals.attentions[max(layer - 1, 0)] if _asks(metadata) else None
        tokens = choose_tokens(metadata.spec, batch["attention_mask"], separators, attention)
        state = signals.hidden[layer]
        rows = tokens.clamp_min(0).unsqueeze(-1).expand(-1, -1, state.shape[-1])
        picked = state.gather(1, rows)
        feature_indices = choose_features(metadata.spec, picked.cpu(), generator).to(picked.device)
        values = _finite(picked.gather(2, feature_indices), path)
        ranks = (batch["attention_mask"].cumsum(1) - 1).gather(1, tokens.clamp_min(0))
        real = (tokens >= 0).cpu().numpy()
        if not metadata.has_indices:
            feature_indices = feature_indices[..., :0]
        arrays = (
            ranks.cpu().numpy().astype(metadata.token_type),
            feature_indices.cpu().numpy().astype(metadata.index_type),
            values,
        )
        yield [
            CachedExample(tokens=t[r], feature_indices=p[r], values=v[r])
            for t, p, v, r in zip(*arrays, real, strict=True)
        ]


def _finite(values: Tensor, path: Path) -> np.ndarray:
    if not bool(torch.isfinite(values.half()).all()):
        raise TrainingError(
            f"what {path.name} keeps must fit float16, found a value up to "
            f"{float(values.abs().max()):.4g}; leave hidden states out (`depth` 0), or "
            "distil with the teacher beside the student"
        )
    found: np.ndarray = values.half().cpu().numpy()
    return found


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > _SPARE * free:
        raise DataError(
            f"the store needs {needed:,} bytes, found {free:,} free in {folder}; keep less "
            "(`depth`, `max_tokens` or `feature_fraction`), or write it elsewhere"
        )
