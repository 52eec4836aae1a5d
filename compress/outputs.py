"""What of a model's outputs counts, and how far one model's are from another's.

Knows tensors, batches and pooling; must not know what was done to the models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from compress.batches import Batch, Batches, Loss, divergence, n_sequences, sampled_fisher_loss
from compress.pooling import Pooling

__all__ = ["Outputs", "Runner"]

Runner: TypeAlias = Callable[[Batch], Tensor]
"""From a batch to a head's output, see `compress.heads.stacked_outputs`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outputs:
    """Outputs as they are compared: pooled, where the model embeds texts.

    Attributes:
        embeds: The outputs are representations, not logits.
        pooling: Of an embedding model: what counts is then the pooled vector.
        temperature: Of the labels that are drawn from logits.
    """

    embeds: bool
    pooling: Pooling | None
    temperature: float

    def of(self, run: Runner, batches: Batches) -> list[Tensor]:
        """What `run` gives for each batch."""
        with torch.no_grad():
            return [self._pooled(run(batch), batch) for batch in batches]

    def divergence(self, run: Runner, batches: Batches, wanted: list[Tensor]) -> float:
        """Mean divergence of what `run` gives from what is `wanted`, over sequences.

        In nats; the squared difference for one output or representations.
        """
        return self._mean(self.of(run, batches), wanted, batches)

    def harm(self, run: Runner, batches: Batches, own: list[Tensor]) -> float:
        """The same in the unit of `loss`'s Fisher matrix.

        To second order a change ``δ`` of the outputs does ``δᵀ F δ`` of harm: twice the divergence
        of classes at the temperature that their labels are drawn at, and the squared difference
        where the output is one number or a representation.
        """
        if self.embeds or own[0].shape[-1] == 1:
            return self.divergence(run, batches, own)
        changed = [output / self.temperature for output in self.of(run, batches)]
        return 2 * self._mean(changed, [output / self.temperature for output in own], batches)

    def loss(self, seed: int) -> Loss:
        """Its squared gradients are a Fisher matrix of what the model gives, labels unread."""
        drawn = sampled_fisher_loss(self.temperature, seed, embeds=self.embeds)
        return lambda output, batch: drawn(self._pooled(output, batch), batch)

    def _mean(self, outputs: list[Tensor], wanted: list[Tensor], batches: Batches) -> float:
        total = sum(
            float(divergence(reference, output, batch, embeds=self.embeds))
            for output, reference, batch in zip(outputs, wanted, batches, strict=True)
        )
        return total / sum(map(n_sequences, batches))

    def _pooled(self, output: Tensor, batch: Batch) -> Tensor:
        return output if self.pooling is None else self.pooling(output, batch["attention_mask"])
