"""Gradient checkpointing (Chen et al. 2016): activations of layers are computed again, not kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel

from compress.errors import UnsupportedArchitectureError

__all__ = ["recomputed"]


@contextmanager
def recomputed(module: nn.Module, enabled: bool) -> Iterator[None]:
    """Within the block, the model in `module` keeps only what enters its layers.

    Raises:
        UnsupportedArchitectureError: The family's layers cannot be computed again.
    """
    if not enabled:
        yield
        return
    model = next(m for m in module.modules() if isinstance(m, PreTrainedModel))
    if not model.supports_gradient_checkpointing:
        raise UnsupportedArchitectureError(
            f"gradient_checkpointing must be off for {model.config.model_type!r}, whose layers "
            "cannot be computed again; lower the batch size, and accumulate more"
        )
    model.activation_checkpointing_enable()
    try:
        yield
    finally:
        model.activation_checkpointing_disable()
        model.disable_input_require_grads()
