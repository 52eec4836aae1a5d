"""Spearman's correlation of cosine similarities with STS-B's scores, for encoders side by side.

    python benchmarks/results/embeddings_kept.py GLUE MODEL STUDENT ...

Sentence vectors are means over tokens of the ONNX graph `onnx/cpu-fp32` of each bundle; the 1,500
pairs are those of STS-B/dev.tsv.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from transformers import AutoTokenizer

from benchmarks.runtimes.onnxruntime import OrtModel

BATCH = 32


def main(glue: str, *bundles: str) -> None:
    """Print one line a bundle."""
    with (Path(glue) / "STS-B" / "dev.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    scores = [float(row["score"]) for row in rows]
    for bundle in bundles:
        first, second = (
            vectors(Path(bundle) / "onnx" / "cpu-fp32", [row[name] for row in rows])
            for name in ("sentence1", "sentence2")
        )
        print(f"{bundle}: {spearmanr((first * second).sum(1), scores).statistic:.4f}")  # noqa: T201


def vectors(folder: Path, sentences: list[str]) -> NDArray[np.float64]:
    """Unit vectors, `(sentences, hidden_size)`."""
    model, tokenizer = OrtModel(folder), AutoTokenizer.from_pretrained(folder)
    found = []
    for start in range(0, len(sentences), BATCH):
        inputs = tokenizer(
            sentences[start : start + BATCH], padding=True, truncation=True, max_length=128,
            return_tensors="np",
        )  # fmt: skip
        mask = inputs["attention_mask"][..., None]
        means = (model(inputs) * mask).sum(1) / mask.sum(1)
        found.append(means / np.linalg.norm(means, axis=1, keepdims=True))
    return np.concatenate(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
