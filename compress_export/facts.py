"""What a model weighs, for tables and the report."""

from __future__ import annotations

from transformers import PreTrainedModel

from compress.cost import encoder_macs, encoder_parameters
from compress.layout import bind

__all__ = ["model_facts"]


def model_facts(model: PreTrainedModel, sequence: int) -> dict[str, int]:
    """What a model weighs: parameters, encoder parameters, encoder MACs, bytes in float32."""
    shape = bind(model).shape
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "parameters": parameters,
        "encoder_parameters": encoder_parameters(shape),
        "encoder_macs": encoder_macs(shape, sequence),
        "size_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
    }
