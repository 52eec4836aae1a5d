"""TextPruner: heads and FFN neurons by its own importance on given texts, without labels."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from exporting import export
from textpruner import GeneralConfig, TransformerPruner, TransformerPruningConfig
from transformers import AutoModelForSequenceClassification, AutoTokenizer

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
            general_config=GeneralConfig(use_device="cpu", output_dir=folder),
        )
        texts = Path(sys.argv[4]).read_text(encoding="utf-8").splitlines()
        tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
        batches = [
            dict(tokenizer(texts[i : i + 32], padding=True, truncation=True, return_tensors="pt"))
            for i in range(0, len(texts), 32)
        ]
        pruner.prune(dataloader=batches, save_model=False)
    export(model, Path(sys.argv[2]))
