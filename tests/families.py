"""Tiny models of every family, built from configs: adding a family adds a row here."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from compress.plan import EncoderShape, LayerPlan, Plan

_BASE: dict[str, Any] = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "intermediate_size": 40,
    "vocab_size": 99,
    "max_position_embeddings": 48,
    "num_labels": 3,
}

TINY: dict[str, dict[str, Any]] = {
    "bert": _BASE,
    "roberta": _BASE | {"pad_token_id": 1},
    "electra": _BASE | {"embedding_size": 16},
    "distilbert": {
        "dim": 32,
        "n_heads": 4,
        "n_layers": 3,
        "hidden_dim": 40,
        "vocab_size": 99,
        "max_position_embeddings": 48,
        "num_labels": 3,
    },
    "albert": _BASE | {"embedding_size": 16, "num_hidden_groups": 1, "inner_group_num": 2},
}

FAMILIES = tuple(TINY)
CLASSES = {
    "bert": "BertForSequenceClassification",
    "roberta": "RobertaForSequenceClassification",
    "electra": "ElectraForSequenceClassification",
    "distilbert": "DistilBertForSequenceClassification",
    "albert": "AlbertForSequenceClassification",
}


def tiny(family: str, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """A tiny classifier with norms and biases away from 1 and 0, in evaluation mode."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **(TINY[family] | overrides))
    model: PreTrainedModel = getattr(transformers, CLASSES[family])(config)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.2 if parameter.ndim == 1 else 0.15
            parameter.copy_(torch.randn_like(parameter) * scale + (parameter.ndim == 1) * 0.5)
    model.config.architectures = [CLASSES[family]]
    return model.eval()


def batch(rows: int = 4, length: int = 11, seed: int = 0) -> dict[str, Tensor]:
    """A ragged batch with labels, padded right, left and not at all."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 99, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    mask[2, : length // 3] = 0
    labels = torch.randint(0, 3, (rows,), generator=generator)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def logits(model: nn.Module, data: dict[str, Tensor] | None = None) -> Tensor:
    """The model's logits on a batch."""
    data = data or batch()
    with torch.no_grad():
        out: Tensor = model(**{k: v for k, v in data.items() if k != "labels"}).logits
    return out


def uneven(shape: EncoderShape) -> Plan:
    """A plan that keeps another number of heads and neurons in every layer."""
    layers = tuple(
        LayerPlan(
            source=i,
            heads=tuple(range(0, heads, 2)) if i % 2 else tuple(range(1, heads)),
            neurons=tuple(range(i, width, 2 + i)),
        )
        for i, (heads, width) in enumerate(zip(shape.n_heads, shape.ffn_widths, strict=True))
    )
    return Plan(shape=shape, layers=layers, depth=shape.depth)


def keeping(shape: EncoderShape, layer: int, heads: int | None, neurons: int | None) -> Plan:
    """A plan that keeps the last `heads` heads and `neurons` neurons of one layer, and the rest."""
    layers = list(Plan.full(shape).layers)
    old = layers[layer]
    layers[layer] = LayerPlan(
        source=layer,
        heads=old.heads if heads is None else old.heads[len(old.heads) - heads :],
        neurons=old.neurons if neurons is None else old.neurons[len(old.neurons) - neurons :],
    )
    return Plan(shape=shape, layers=tuple(layers), depth=shape.depth)
