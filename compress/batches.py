"""What the methods of this package take as data: tokenised batches, losses, a progress callback.

Knows tensors; must not know tasks, files or tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

__all__ = [
    "Batch",
    "Batches",
    "Loss",
    "Progress",
    "forward",
    "frozen",
    "label_loss",
    "n_tokens",
    "sampled_fisher_loss",
    "silent",
]

Batch: TypeAlias = Mapping[str, Tensor]
"""`input_ids`, `attention_mask` and what else the tokenizer gives, each `(batch, sequence)`;
`labels: (batch,)` where the loss needs them."""

Batches: TypeAlias = Sequence[Batch]

Loss: TypeAlias = Callable[[Tensor, Batch], Tensor]
"""From logits `(batch, n_labels)` and the batch to the *sum* of the examples' losses."""


class Progress(Protocol):
    """Told how far a step has come."""

    def __call__(self, label: str, done: int, total: int) -> None:
        """Report that `done` of `total` batches of the step `label` are through."""


def silent(label: str, done: int, total: int) -> None:
    """The progress callback that tells nobody."""


def n_tokens(batch: Batch) -> int:
    """Tokens of the batch that are not padding."""
    return int(batch["attention_mask"].sum())


def forward(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The logits `(batch, n_labels)`, labels left aside."""
    inputs = {k: v.to(model.device) for k, v in batch.items() if k != "labels"}
    logits: Tensor = model(**inputs).logits
    return logits


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Within the block, `model` is in evaluation mode and no parameter takes a gradient."""
    flags = [(p, p.requires_grad) for p in model.parameters()]
    training = model.training
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        model.train(training)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def label_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy with `labels`, or squared error where the model has one output."""
    labels = batch["labels"].to(logits.device)
    if logits.shape[-1] == 1:
        return nn.functional.mse_loss(logits.squeeze(-1), labels.to(logits.dtype), reduction="sum")
    return nn.functional.cross_entropy(logits, labels.long(), reduction="sum")


def sampled_fisher_loss(temperature: float = 2.0, seed: int = 0) -> Loss:
    """A loss whose squared gradients are an unbiased diagonal Fisher, without any label.

    Labels are drawn from the model's own softmax at `temperature`; a regression's Gaussian
    likelihood has the same Fisher as the squared derivative of its output. On a well-fitted
    teacher the gradients of the given labels vanish, those of drawn ones do not.

    Args:
        temperature: Above 1 it flattens the distribution that labels are drawn from.
        seed: Of the draws.
    """
    generator = torch.Generator().manual_seed(seed)

    def loss(logits: Tensor, _: Batch) -> Tensor:
        if logits.shape[-1] == 1:
            return logits.sum()
        probabilities = (logits.detach().float() / temperature).softmax(-1).cpu()
        drawn = torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
        drawn = drawn.to(logits.device)
        return nn.functional.cross_entropy(logits / temperature, drawn, reduction="sum")

    return loss
