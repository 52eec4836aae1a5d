"""Train the small encoders of the README's table of other families, on one thread.

    python benchmarks/results/train_small_families.py modernbert TEACHER GLUE OUT

TEACHER is a BERT classifier on SST-2 whose tokenizer, word embeddings and labels are taken; GLUE
holds SST-2/train.tsv; OUT is the folder to write. One pass over 12,000 sentences.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

EXAMPLES, BATCH, LEARNING_RATE = 12_000, 32, 3e-4

_SPECIAL = {"pad_token_id": 0, "bos_token_id": 101, "eos_token_id": 102}
_COMMON = {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 4}

CONFIGS: dict[str, dict[str, Any]] = {
    "modernbert": {
        **_COMMON, **_SPECIAL, "intermediate_size": 768, "cls_token_id": 101, "sep_token_id": 102,
        "local_attention": 16, "max_position_embeddings": 512, "classifier_pooling": "mean",
    },
    "deberta-v2": {
        **_COMMON, "pad_token_id": 0, "intermediate_size": 1024, "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"], "position_buckets": 32, "norm_rel_ebd": "layer_norm",
        "share_att_key": True, "position_biased_input": False, "type_vocab_size": 0,
    },
    "xlnet": {
        **_SPECIAL, "d_model": 384, "n_head": 6, "n_layer": 4, "d_inner": 1024,
        "summary_type": "mean",
    },
    "nomic_bert": {
        **_COMMON, "pad_token_id": 0, "intermediate_size": 768, "max_position_embeddings": 512,
    },
}  # fmt: skip


def main(family: str, teacher: str, glue: str, out: str) -> None:
    """Train one model and save it with its tokenizer."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    source = AutoModelForSequenceClassification.from_pretrained(teacher)
    embeddings = source.get_input_embeddings().weight.detach()
    settings = CONFIGS[family] | {"vocab_size": len(embeddings), "num_labels": 2}
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, **settings))
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(embeddings)
    model.config.label2id, model.config.id2label = source.config.label2id, source.config.id2label
    train(model.train(), tokenizer, Path(glue) / "SST-2" / "train.tsv")
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)


def train(model: Any, tokenizer: Any, path: Path) -> None:
    """One pass with AdamW and a one-cycle schedule."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    chosen = np.random.default_rng(0).permutation(len(rows))[:EXAMPLES]
    steps = len(chosen) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1
    )
    for step in range(steps):
        batch = [rows[i] for i in chosen[step * BATCH : (step + 1) * BATCH]]
        inputs = tokenizer(
            [row[0] for row in batch],
            return_tensors="pt", padding=True, truncation=True, max_length=64,
        )  # fmt: skip
        inputs.pop("token_type_ids", None)
        labels = torch.tensor([int(row[1]) for row in batch])
        model(**inputs, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    main(*sys.argv[1:5])
