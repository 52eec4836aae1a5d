"""What of a model's outputs counts, and how far one model's are from another's.

Knows tensors, batches and pooling; must not know what was done to the models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.model.batches import (
    Batch,
    Batches,
    Loss,
    divergence,
    forward,
    frozen,
    n_sequences,
    sampled_fisher_loss,
)
from compress.model.pooling import Pooling
from compress.model.task_head import Likelihood

__all__ = ["Outputs", "Runner", "runner"]

Runner: TypeAlias = Callable[[Batch], Tensor]
"""From a batch to a head's output, see `compress.model.task_head.stacked_outputs`."""

MOST_REMEMBERED = 100_000_000
"""Elements: 400 MB. A vocabulary's worth of logits a token is computed anew instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outputs:
    """Outputs as they are compared: pooled, where the model embeds texts.

    Attributes:
        likelihood: The likelihood of the outputs, see `compress.model.task_head.likelihood_of`.
        pooling: Pooling of an embedding model: pooled vectors are then compared.
        temperature: Softmax temperature of the labels that are drawn from logits.
    """

    likelihood: Likelihood
    pooling: Pooling | None
    temperature: float

    def of(self, run: Runner) -> Runner:
        """What `run` gives, pooled, and remembered batch by batch as far as memory allows.

        A batch is known again while it is the same object, and must not change.
        """
        # The batch is held beside its output: an id may be another batch's once one is dropped.
        remembered: dict[int, tuple[Batch, Tensor]] = {}
        room = MOST_REMEMBERED

        def pooled(batch: Batch) -> Tensor:
            nonlocal room
            if id(batch) in remembered:
                return remembered[id(batch)][1]
            with torch.no_grad():
                output = self._pooled(run(batch), batch)
            if output.numel() <= room:
                remembered[id(batch)] = batch, output
                room -= output.numel()
            return output

        return pooled

    def divergence(self, run: Runner, expected: Runner, batches: Batches) -> float:
        """Mean divergence of `run` from `expected` (see `of`), over sequences.

        In nats; the squared difference of numbers.
        """
        return self._mean(run, expected, batches, 1.0)

    def loss_increase(self, run: Runner, expected: Runner, batches: Batches) -> float:
        """The same in the unit of `loss`'s Fisher matrix.

        To second order a change ``δ`` of the outputs does ``δᵀ F δ`` of loss increase: twice the
        divergence of classes at the temperature that their labels are drawn at, and the squared
        difference of numbers.
        """
        if self.likelihood == "gaussian":
            return self.divergence(run, expected, batches)
        return 2 * self._mean(run, expected, batches, self.temperature)

    def loss(self, seed: int) -> Loss:
        """Its squared gradients are a Fisher matrix of what the model gives, labels unread."""
        drawn = sampled_fisher_loss(self.temperature, seed, likelihood=self.likelihood)
        return lambda output, batch: drawn(self._pooled(output, batch), batch)

    def _mean(self, run: Runner, expected: Runner, batches: Batches, temperature: float) -> float:
        total = 0.0
        for batch in batches:
            with torch.no_grad():
                output = self._pooled(run(batch), batch) / temperature
            reference = expected(batch) / temperature
            total += float(divergence(reference, output, batch, likelihood=self.likelihood))
        return total / sum(map(n_sequences, batches))

    def _pooled(self, output: Tensor, batch: Batch) -> Tensor:
        return output if self.pooling is None else self.pooling(output, batch["attention_mask"])


def runner(model: PreTrainedModel) -> Runner:
    """Runs a model in evaluation mode."""

    def run(batch: Batch) -> Tensor:
        with frozen(model):
            return forward(model, batch)

    return run
