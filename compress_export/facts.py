"""What a model weighs, for tables and the report."""

from __future__ import annotations

from transformers import PreTrainedModel

from compress.model.binding import bind
from compress.plan.cost import encoder_macs

__all__ = ["model_facts"]


def model_facts(model: PreTrainedModel, sequence: int) -> dict[str, int]:
    """What a model weighs: parameters, encoder parameters, encoder MACs, bytes in float32."""
    layout = bind(model)
    inside = [p for layer in layout.layers for p in layer.module.parameters()]
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "parameters": parameters,
        "encoder_parameters": sum(p.numel() for p in inside),
        "encoder_macs": encoder_macs(layout.shape, sequence),
        "size_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
    }
