"""Does an int8 graph answer alike however a text is batched and padded? Accuracy and cosines.

    python benchmarks/results/int8_padding.py TEACHER GLUE ENCODER

TEACHER is a fine-tuned SST-2 classifier, GLUE holds `SST-2/dev.tsv`, ENCODER is a sentence encoder.
Both are exported here as `cpu-fp32` and `cpu-int8`. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer

from benchmarks.tasks import encode_labels, glue_task
from compress.checkpoint.checkpoint import load
from compress.model.pooling import read_pooling
from export.bundle import export_bundle
from export.graph.session import open_session
from export.precision.variants import variant

VARIANTS = ("cpu-fp32", "cpu-int8")
_LONGEST = 128


def batches(lengths: Sequence[int]) -> dict[str, list[list[int]]]:
    """Rows by way of batching."""
    n, order = len(lengths), np.argsort(lengths, kind="stable").tolist()

    def cut(rows: Sequence[int], size: int) -> list[list[int]]:
        return [list(rows[i : i + size]) for i in range(0, n, size)]

    return {
        "one by one": cut(range(n), 1),
        "sorted, by 32": cut(order, 32),
        "as they come, by 8": cut(range(n), 8),
        "as they come, by 32": cut(range(n), 32),
        "padded to 128": cut(range(n), 32),
    }


def answers(
    session: Any, tokenizer: Any, texts: Sequence[str], rows: list[list[int]], *, whole: bool
) -> Iterator[tuple[list[int], dict[str, NDArray[Any]], NDArray[np.float32]]]:
    """Rows, inputs and first output of every batch."""
    names = [value.name for value in session.get_inputs()]
    for some in rows:
        encoded = tokenizer(
            [texts[i] for i in some], padding="max_length" if whole else True,
            max_length=_LONGEST, truncation=True, return_tensors="np",
        )  # fmt: skip
        feed = {name: encoded[name].astype(np.int64) for name in names}
        yield some, feed, session.run(None, feed)[0]


def accuracies(teacher: Path, glue: Path) -> dict[str, dict[str, float]]:
    """Accuracy on SST-2's dev set by variant and way of batching."""
    task = glue_task("sst2")
    assert task is not None
    data, model = task.load("validation", glue), load(teacher)
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    names = {str(name): int(i) for i, name in (model.config.id2label or {}).items()}
    texts, labels = [text for (text,) in data.texts], encode_labels(data, names)
    ways = batches([len(text) for text in texts])
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        export_bundle(model, tokenizer, [variant(name) for name in VARIANTS], Path(folder))
        for name in VARIANTS:
            session = open_session(Path(folder) / name / "model.onnx")
            found[name] = {}
            for way, rows in ways.items():
                right = 0
                whole = way.startswith("padded")
                for some, _, logits in answers(session, tokenizer, texts, rows, whole=whole):
                    right += int((logits.argmax(1) == labels[some]).sum())
                found[name][way] = right / len(texts)
    return found


def cosines(encoder: Path, texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Least and mean cosine of int8 vectors by way of batching, to those of each text alone."""
    model, pooling = load(encoder), read_pooling(encoder)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    assert pooling is not None
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        export_bundle(model, tokenizer, [variant("cpu-int8")], Path(folder))
        session = open_session(Path(folder) / "cpu-int8" / "model.onnx")
        alone: NDArray[np.float32] | None = None
        for way, rows in batches([len(text) for text in texts]).items():
            vectors = np.zeros((len(texts), model.config.hidden_size), np.float32)
            whole = way.startswith("padded")
            for some, feed, hidden in answers(session, tokenizer, texts, rows, whole=whole):
                mask = torch.from_numpy(feed["attention_mask"])
                vectors[some] = pooling(torch.from_numpy(hidden), mask).numpy()
            alone = vectors if alone is None else alone
            near = (vectors * alone).sum(1)
            found[way] = {"least": float(near.min()), "mean": float(near.mean())}
    return found


def main(teacher: str, glue: str, encoder: str) -> None:
    """Print what was found."""
    task = glue_task("sst2")
    assert task is not None
    texts = [text for (text,) in task.load("validation", Path(glue)).texts]
    found = {
        "sst2_accuracy": accuracies(Path(teacher), Path(glue)),
        "encoder_cosine": cosines(Path(encoder), texts),
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
