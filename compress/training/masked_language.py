"""Masked language modelling: what an encoder was pre-trained for, as a module to train.

Knows tensors; texts and tokenizers are the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.errors import CheckpointError

__all__ = ["IGNORED", "MaskedLanguageLearner", "output_layer"]

IGNORED = -100
"""The label of a token that was not masked."""


def output_layer(model: PreTrainedModel) -> nn.Linear:
    """The projection to the vocabulary.

    Raises:
        CheckpointError: The model has none.
    """
    layer = model.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        raise CheckpointError(
            f"the model must have a head for masked language modelling, found "
            f"{type(model).__name__}; train one with `compress-export study mlm-head`"
        )
    return layer


class MaskedLanguageLearner(nn.Module):
    """A model with the loss of its masked tokens; logits are computed for those alone.

    Args:
        model: A model with a head for masked language modelling.
        encoder: Whether the encoder learns too; else the head alone, and its output embeddings
            stay those of the input.

    Raises:
        CheckpointError: The model has no such head.
    """

    def __init__(self, model: PreTrainedModel, *, encoder: bool) -> None:
        super().__init__()
        self.model = model
        self._encoder = encoder
        self._output = [output_layer(model)]  # in a list: it is the model's, not this module's
        if not encoder:
            model.base_model.requires_grad_(False)

    def train(self, mode: bool = True) -> MaskedLanguageLearner:
        """Train the head, and the encoder if it learns."""
        super().train(mode)
        if not self._encoder:
            self.model.base_model.eval()
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Each tensor once: tied embeddings have two names, and files of weights take one."""
        whole: dict[str, Any] = super().state_dict(*args, **kwargs)
        return {name: whole[name] for name in dict.fromkeys(_first_names(whole).values())}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """What `state_dict` gave, under all its names again."""
        first = _first_names(super().state_dict())
        aliases = {n: state_dict[f] for n, f in first.items() if n != f and f in state_dict}
        return super().load_state_dict({**aliases, **state_dict}, *args, **kwargs)

    def forward(self, labels: Tensor, **inputs: Tensor) -> dict[str, Any]:
        """The mean loss of masked tokens in nats, and their logits `(masked, vocabulary)`."""
        chosen = labels != IGNORED
        with self._of(chosen):
            logits = self.model(**inputs).logits
        total = nn.functional.cross_entropy(logits, labels[chosen], reduction="sum")
        return {"loss": total / chosen.sum().clamp_min(1), "logits": logits}

    @contextmanager
    def _of(self, chosen: Tensor) -> Iterator[None]:
        """Within the block, only the chosen tokens reach the output layer."""

        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            hidden = args[0]
            if hidden.shape[:2] != chosen.shape:  # sequence first
                hidden = hidden.transpose(0, 1)
            return (hidden[chosen],)

        handle = self._output[0].register_forward_pre_hook(hook)
        try:
            yield
        finally:
            handle.remove()


def _first_names(whole: Mapping[str, Tensor]) -> dict[str, str]:
    """Of each name, the first name of its tensor."""
    first: dict[int, str] = {}
    return {name: first.setdefault(tensor.data_ptr(), name) for name, tensor in whole.items()}
