"""What the methods of this package take as data: tokenised batches, losses, a progress callback.

Knows tensors; must not know tasks, files or tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.errors import DataError
from compress.model.task_head import Likelihood, stacked_outputs

__all__ = [
    "Batch",
    "Batches",
    "Loss",
    "Progress",
    "divergence",
    "first_within",
    "forward",
    "frozen",
    "label_loss",
    "n_sequences",
    "n_tokens",
    "sampled_fisher_loss",
    "silent",
    "split_within",
    "token_mask",
]

Batch: TypeAlias = Mapping[str, Tensor]
"""`input_ids`, `attention_mask` and what else the tokenizer gives, each `(batch, sequence)`, or
`(batch, choices, sequence)` for multiple choice. `labels` where the loss needs them: `(batch,)`,
`(batch, sequence)` with -100 where there is none, or `(batch, 2)` for a span's ends."""

Batches: TypeAlias = Sequence[Batch]

Loss: TypeAlias = Callable[[Tensor, Batch], Tensor]
"""From a head's output (`compress.model.task_head.stacked_outputs`) and the batch to the *sum* of
the examples' losses."""


class Progress(Protocol):
    """Told how far a step has come."""

    def __call__(self, label: str, done: int, total: int) -> None:
        """Report that `done` of `total` batches of the step `label` are through."""


def silent(label: str, done: int, total: int) -> None:
    """The progress callback that tells nobody."""


def n_sequences(batch: Batch) -> int:
    """Examples of a batch."""
    return len(batch["input_ids"])


def first_within(batches: Batches, tokens: int) -> Batches:
    """The first batches, at least one, that together have no more than `tokens` real tokens."""
    sizes = np.cumsum([n_tokens(batch) for batch in batches])
    return batches[: max(1, int(np.searchsorted(sizes, tokens, side="right")))]


def split_within(batches: Batches, tokens: int) -> tuple[Batches, Batches]:
    """About so many tokens, and as many others; the same again if there are no others."""
    first = first_within(batches, tokens)
    return first, first_within(batches[len(first) :] or first, tokens)


def n_tokens(batch: Batch) -> int:
    """Tokens of the batch that are not padding."""
    return int(batch["attention_mask"].sum())


def token_mask(batch: Batch, device: torch.device | str = "cpu") -> Tensor:
    """Which tokens are no padding, as the encoder's layers see them: `(rows, sequence)`."""
    mask = batch["attention_mask"].bool().to(device)
    return mask.reshape(-1, mask.shape[-1])


def forward(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The head's output, see `compress.model.task_head.stacked_outputs`, labels left aside."""
    inputs = {k: v.to(model.device) for k, v in batch.items() if k != "labels"}
    return stacked_outputs(model, inputs)


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
    """Cross-entropy with `labels`, or squared error where the model has one output.

    Labels of 0.0 and 1.0 in the shape of the logits are yes or no for each label by itself.

    Raises:
        DataError: The batch has no labels.
    """
    if "labels" not in batch:
        raise DataError(
            "a batch has no 'labels', which this loss reads; add them, or use a score that draws "
            "labels from the model"
        )
    labels = batch["labels"].to(logits.device)
    several = logits.shape[-1] > 1
    if several and labels.shape == logits.shape and labels.is_floating_point():
        return nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    if logits.shape[-1] == 1:
        return nn.functional.mse_loss(logits.squeeze(-1), labels.to(logits.dtype), reduction="sum")
    return nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), labels.long().reshape(-1), reduction="sum"
    )


def sampled_fisher_loss(
    temperature: float = 2.0, seed: int = 0, *, likelihood: Likelihood = "categorical"
) -> Loss:
    """A loss whose squared gradients are an unbiased diagonal Fisher, without any label.

    Labels are drawn from the model's own probabilities at `temperature`. On a well-fitted teacher
    the gradients of the given labels vanish, those of drawn ones do not. Where every token has an
    output, padding is left out.

    Args:
        temperature: Above 1 it flattens the distributions that labels are drawn from.
        seed: Seed of the draws.
        likelihood: `categorical`: one class is drawn from the softmax; `bernoulli`: each label is
            drawn from its own sigmoid; `gaussian`: the Fisher matrix of outputs under a unit
            Gaussian is that of a random projection, which is drawn (of the output itself where
            there is one).
    """
    generator = torch.Generator().manual_seed(seed)

    def loss(output: Tensor, batch: Batch) -> Tensor:
        output = _real(output, batch)
        if output.shape[-1] == 1 and likelihood != "bernoulli":
            return output.sum()
        if likelihood == "gaussian":
            return (output * torch.randn(output.shape, generator=generator).to(output)).sum()
        logits = output.reshape(-1, output.shape[-1]) / temperature
        if likelihood == "bernoulli":
            chances = logits.detach().float().sigmoid().cpu()
            labels = torch.bernoulli(chances, generator=generator).to(logits)
            return nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        probabilities = logits.detach().float().softmax(-1).cpu()
        drawn = torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
        return nn.functional.cross_entropy(logits, drawn.to(logits.device), reduction="sum")

    return loss


def divergence(
    reference: Tensor, output: Tensor, batch: Batch, *, likelihood: Likelihood = "categorical"
) -> Tensor:
    """How far an output is from a reference, summed over the batch, padding left out.

    KL(reference ‖ output) in nats over the last axis, of each label where they are independent
    (`bernoulli`); the squared difference of numbers (`gaussian`).
    """
    reference, output = _real(reference, batch), _real(output, batch)
    if likelihood == "gaussian" or (likelihood == "categorical" and reference.shape[-1] == 1):
        return (reference - output).square().sum()
    if likelihood == "bernoulli":
        reference, output = (torch.stack([x, -x], -1) for x in (reference, output))
        there, here = (nn.functional.logsigmoid(x.double()) for x in (reference, output))
        return nn.functional.kl_div(here, there, log_target=True, reduction="sum")
    there, here = (logits.double().log_softmax(-1) for logits in (reference, output))
    return nn.functional.kl_div(here, there, log_target=True, reduction="sum")


def _real(output: Tensor, batch: Batch) -> Tensor:
    """The outputs of real tokens, where every token has one."""
    mask = batch["attention_mask"]
    return output[mask.bool().to(output.device)] if output.shape[:-1] == mask.shape else output
