"""Torch-Pruning: heads and FFN channels by magnitude, the same share in every layer."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch_pruning as tp
from exporting import export
from transformers import AutoModelForSequenceClassification

if __name__ == "__main__":
    model = AutoModelForSequenceClassification.from_pretrained(
        sys.argv[1], attn_implementation="eager"
    ).eval()
    share = float(sys.argv[3])
    heads = {}
    for layer in model.bert.encoder.layer:
        own = layer.attention.self
        heads |= dict.fromkeys((own.query, own.key, own.value), own.num_attention_heads)
    ids = torch.randint(5, 1000, (2, 16))
    pruner = tp.pruner.BasePruner(
        model,
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        importance=tp.importance.GroupMagnitudeImportance(p=1),
        pruning_ratio=0.0,
        pruning_ratio_dict={
            layer.intermediate.dense: 1 - share for layer in model.bert.encoder.layer
        },
        ignored_layers=[model.classifier, model.bert.pooler],
        num_heads=heads,
        prune_num_heads=True,
        head_pruning_ratio=1 - share,
        output_transform=lambda out: out.logits.sum(),
    )
    pruner.step()
    for layer in model.bert.encoder.layer:
        own = layer.attention.self
        own.num_attention_heads = pruner.num_heads[own.query]
        own.all_head_size = own.query.out_features
    export(model, Path(sys.argv[2]))
