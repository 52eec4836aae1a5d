"""TextPruner: heads and FFN neurons by its own importance, on the teacher's own outputs."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from exporting import export
from textpruner import GeneralConfig, TransformerPruner, TransformerPruningConfig
from transformers import AutoModelForSequenceClassification

if __name__ == "__main__":
    model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1]).eval()
    share, config = float(sys.argv[3]), model.config
    with tempfile.TemporaryDirectory() as folder:
        pruner = TransformerPruner(
            model,
            transformer_pruning_config=TransformerPruningConfig(
                target_ffn_size=round(share * config.intermediate_size),
                target_num_of_heads=round(share * config.num_attention_heads),
                pruning_method="iterative",
                n_iters=4,
                use_logits=True,
            ),
            general_config=GeneralConfig(device="cpu", output_dir=folder),
        )
        ids = torch.randint(5, 1000, (32, 32))
        batches = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}]
        pruner.prune(dataloader=batches, save_model=False)
    export(model, Path(sys.argv[2]))
