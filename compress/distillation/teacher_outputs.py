"""Where a teacher's signals come from: the teacher, run beside the student, or a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.distillation.identity import fingerprint
from compress.distillation.losses import hidden_error, selected_error
from compress.distillation.signals import Signals, capture
from compress.distillation.teacher_cache import CacheMetadata
from compress.errors import RecipeError
from compress.model.binding import bind
from compress.model.task_head import Likelihood, likelihood_of, n_labels_of

__all__ = ["CachedTeacher", "LiveTeacher", "TeacherOutputs", "TeacherSource"]


class TeacherOutputs(Protocol):
    """What the teacher says of one batch."""

    @property
    def logits(self) -> Tensor:
        """`(batch, n_labels)`."""

    @property
    def signals(self) -> Signals:
        """All of it; a store has not everything."""

    def error(self, layer: int, state: Tensor, mask: Tensor) -> Tensor:
        """How far `state` is from the teacher's `layer` (0: embeddings): `(batch,)`."""


class TeacherSource(Protocol):
    """A teacher, or what is kept of one.

    Attributes:
        n_layers: Applied, of the teacher.
        n_labels: Outputs of its head.
        likelihood: The likelihood that the logits parametrise.
        hidden_size: Width of its hidden states.
        head_width: Width of its heads; 0 where they cannot be captured.
        identity: Hash of its weights.
    """

    n_layers: int
    n_labels: int
    likelihood: Likelihood
    hidden_size: int
    head_width: int
    identity: str

    def rest(self) -> None:
        """Give back what was taken for a training: room on its device."""

    def __call__(
        self, inputs: Mapping[str, Tensor], stored: Mapping[str, Tensor], layers: Sequence[int]
    ) -> TeacherOutputs:
        """What the teacher gives for a batch.

        Args:
            inputs: The model's inputs.
            stored: Stored outputs of the batch.
            layers: Teacher layers whose queries, keys and values are needed.
        """


@dataclass(frozen=True, slots=True)
class LiveOutputs:
    """What the teacher itself gives for a batch."""

    signals: Signals

    @property
    def logits(self) -> Tensor:
        """See `TeacherOutputs`."""
        return self.signals.logits

    def error(self, layer: int, state: Tensor, mask: Tensor) -> Tensor:
        """See `TeacherOutputs`."""
        return hidden_error(state, self.signals.hidden[layer], mask)


class LiveTeacher:
    """The teacher, run on every batch.

    Args:
        model: The teacher.
        projections: Listen to queries, keys and values too.
        device: Device that it runs on. Default: the device of the batches.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        projections: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self._layout, self._projections = bind(model.eval()), projections
        self._device = device
        shape = self._layout.shape
        self.n_layers, self.hidden_size = sum(shape.uses), shape.hidden_size
        self.n_labels, self.head_width = n_labels_of(model), shape.head_width
        self.likelihood = likelihood_of(model)
        self.identity = fingerprint(model)

    def __deepcopy__(self, memo: dict[int, Any]) -> LiveTeacher:
        """One teacher is enough for every copy of its student."""
        return self

    def rest(self) -> None:
        """See `TeacherSource`."""
        self._layout.model.to("cpu")  # type: ignore[arg-type]

    def __call__(
        self, inputs: Mapping[str, Tensor], stored: Mapping[str, Tensor], layers: Sequence[int]
    ) -> LiveOutputs:
        """See `TeacherSource`."""
        model = self._layout.model
        home = inputs["input_ids"].device
        device = self._device or home
        if model.device != device:
            model.to(device)  # type: ignore[arg-type]
        recorded = layers if self._projections else ()
        with torch.no_grad():
            there = {name: value.to(device) for name, value in inputs.items()}
            return LiveOutputs(capture(self._layout, there, layers=recorded).to(home))


@dataclass(frozen=True, slots=True)
class CachedOutputs:
    """What a store has of a teacher for a batch."""

    stored: Mapping[str, Tensor]
    pair_of_layer: Mapping[int, int]

    @property
    def logits(self) -> Tensor:
        """See `TeacherOutputs`."""
        return self.stored["teacher_logits"]

    @property
    def signals(self) -> Signals:
        """See `TeacherOutputs`."""
        raise RecipeError(
            "a store keeps logits and hidden states, found attention or relations in the "
            "objective; leave them out, or name the teacher in place of the store"
        )

    def error(self, layer: int, state: Tensor, mask: Tensor) -> Tensor:
        """See `TeacherOutputs`."""
        if layer not in self.pair_of_layer:
            raise RecipeError(
                f"the store must keep layer {layer} of the teacher, found "
                f"{sorted(self.pair_of_layer)}; "
                "make a store of more (`depth`), or learn from these"
            )
        i = self.pair_of_layer[layer]
        ranks, indices, values = (
            self.stored[f"teacher_{name}_{i}"] for name in ("tokens", "indices", "values")
        )
        in_order = mask.long().argsort(dim=1, descending=True, stable=True)
        positions = in_order.gather(1, ranks.clamp_min(0))
        return selected_error(state, values, torch.where(ranks < 0, -1, positions), indices)


class CachedTeacher:
    """What a store has of a teacher, batch by batch; no teacher is loaded.

    Args:
        metadata: The store's metadata.
    """

    def __init__(self, metadata: CacheMetadata) -> None:
        self.n_layers, self.n_labels = metadata.n_layers, metadata.n_labels
        self.likelihood: Likelihood = "gaussian" if metadata.n_labels == 1 else "categorical"
        self.hidden_size, self.head_width = metadata.hidden_size, 0
        self.identity = metadata.identity.teacher
        self._pair_of_layer = {layer: i for i, (_, layer) in enumerate(metadata.pairs)}

    def rest(self) -> None:
        """See `TeacherSource`."""

    def __call__(
        self, inputs: Mapping[str, Tensor], stored: Mapping[str, Tensor], layers: Sequence[int]
    ) -> CachedOutputs:
        """See `TeacherSource`."""
        return CachedOutputs(stored, self._pair_of_layer)
