"""Tiny models of every family, built from configs: adding a family adds a row here."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from compress.model.task_head import head_of, named_outputs
from compress.plan.plan import EncoderShape, LayerPlan, Plan
from compress_export.support import HEAD_CLASSES

_BASE: dict[str, Any] = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "intermediate_size": 40,
    "vocab_size": 99,
    "max_position_embeddings": 48,
    "pad_token_id": 0,
}
_ROBERTA = _BASE | {"pad_token_id": 1}
_DEBERTA = _BASE | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
_BUCKETS = {"position_buckets": 8, "norm_rel_ebd": "layer_norm", "position_biased_input": False}
_SPECIAL = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}

TINY: dict[str, dict[str, Any]] = {
    "bert": _BASE,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "albert": _BASE | {"embedding_size": 16, "num_hidden_groups": 1, "inner_group_num": 2},
    "xlnet": {"d_model": 32, "n_head": 4, "n_layer": 3, "d_inner": 40, "vocab_size": 99},
    "distilbert": {"dim": 32, "n_heads": 4, "n_layers": 3, "hidden_dim": 40, "vocab_size": 99}
    | {"max_position_embeddings": 48},
    "electra": _BASE | {"embedding_size": 16},
    "deberta": _DEBERTA,
    "deberta-v2": _DEBERTA | _BUCKETS,
    "mpnet": _ROBERTA,
    "modernbert": _BASE | _SPECIAL | {"local_attention": 6},
    "nomic_bert": _BASE,
    "eurobert": _BASE
    | _SPECIAL
    | {"num_attention_heads": 8, "num_key_value_heads": 4, "mask_token_id": 4},
    "ernie": _BASE,
    "data2vec-text": _ROBERTA,
    "rembert": _BASE | _SPECIAL | {"input_embedding_size": 16, "output_embedding_size": 24},
    "xlm-roberta-xl": _ROBERTA,
    "roberta-prelayernorm": _ROBERTA,
    "megatron-bert": _BASE,
    "jina_embeddings_v3": _ROBERTA,
}

FAMILIES = tuple(TINY)

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "albert, two groups": ("albert", {"num_hidden_groups": 2, "num_hidden_layers": 4}),
    "deberta, absolute": ("deberta", {"relative_attention": False, "pos_att_type": None}),
    "deberta, c2p alone": ("deberta", {"pos_att_type": ["c2p"]}),
    "deberta-v3": ("deberta-v2", {"share_att_key": True}),
    "deberta-v2, convolution": ("deberta-v2", {"conv_kernel_size": 3, "conv_act": "gelu"}),
    "eurobert, biases": ("eurobert", {"attention_bias": True, "mlp_bias": True}),
    "modernbert, biases": (
        "modernbert",
        {"attention_bias": True, "mlp_bias": True, "norm_bias": True},
    ),
}
"""What a family's config can also be: name, family, and what differs."""


def class_name(family: str, head: str = "sequence") -> str | None:
    """The transformers class of a family with that head; `None` if there is none."""
    name = HEAD_CLASSES[head].get(family)
    return name if name is None or isinstance(name, str) else name[0]


def tiny(family: str, seed: int = 0, head: str = "sequence", **overrides: Any) -> PreTrainedModel:
    """A tiny model with norms and biases away from 1 and 0, in evaluation mode."""
    torch.manual_seed(seed)
    family, changes = VARIANTS.get(family, (family, {}))
    settings = {"num_labels": 2 if head == "question" else 3} | TINY[family] | changes | overrides
    name = class_name(family, head)
    assert name is not None
    model: PreTrainedModel = getattr(transformers, name)(AutoConfig.for_model(family, **settings))
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.2 if parameter.ndim == 1 else 0.15
            parameter.copy_(torch.randn_like(parameter) * scale + (parameter.ndim == 1) * 0.5)
    model.config.architectures = [name]
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


def choices(data: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same batch as two choices a row, for multiple choice: `(batch / 2, 2, sequence)`."""
    return {
        name: values.reshape(-1, 2, values.shape[-1]) if values.ndim == 2 else values[::2] % 2
        for name, values in data.items()
    }


def outputs(model: PreTrainedModel, data: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Everything that the model's head gives on a batch."""
    data = data or (choices(batch()) if head_of(model).choices else batch())
    with torch.no_grad():
        return named_outputs(model, {k: v for k, v in data.items() if k != "labels"})


def hidden(model: PreTrainedModel) -> Tensor:
    """The encoder's last hidden states, `(batch, sequence, hidden_size)`."""
    data = {k: v for k, v in batch().items() if k != "labels"}
    with torch.no_grad():
        out: Tensor = model.base_model(**data).last_hidden_state
    return out


def feeds(family: str, batches: int = 2, rows: int = 8) -> list[dict[str, Any]]:
    """Made-up texts of 3 to 14 tokens as a graph's inputs, padded on the right."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(batches):
        ids = torch.randint(5, 99, (rows, 14), generator=generator)
        lengths = torch.randint(3, 15, (rows, 1), generator=generator)
        mask = (torch.arange(14) < lengths).long()
        pad = TINY[VARIANTS.get(family, (family, {}))[0]].get("pad_token_id", 0)
        ids = torch.where(mask.bool(), ids, pad)
        whole = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
        found.append({name: values.numpy() for name, values in whole.items()})
    return found


def plan_of(shape: EncoderShape, *keep: int, depth: int | None = None) -> Plan:
    """A plan that keeps the layers `keep` whole; `depth` uses of them where they are shared."""
    layers = tuple(Plan.full(shape).layers[i] for i in keep)
    return Plan(shape=shape, layers=layers, depth=len(keep) if depth is None else depth)


def every_head() -> list[tuple[str, str]]:
    """Each family with each model head that it has."""
    return [
        (family, head) for family in FAMILIES for head in HEAD_CLASSES if class_name(family, head)
    ]
