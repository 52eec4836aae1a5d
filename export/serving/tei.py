"""Text Embeddings Inference, its ONNX Runtime backend: CPU images, float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from export.precision import VariantName
from export.serving.clamp import clamp
from export.serving.sentence_transformers import place_pooling
from export.serving.stack import (
    Precision,
    Source,
    Stack,
    place_config,
    place_guide,
    place_tokenizer,
    write_json,
)
from export.serving.subject import Subject

__all__ = ["STACK"]

GRAPHS: dict[Precision, tuple[str, VariantName]] = {"fp32": ("onnx/model.onnx", "cpu-fp32")}


def write(source: Source, folder: Path, precisions: tuple[Precision, ...]) -> None:
    """The graph in `onnx/` with the oldest stamps that it can carry; pooling beside the config."""
    place_config(source, folder)
    place_tokenizer(source, folder)
    where, variant = GRAPHS[precisions[0]]
    clamp(source.graphs / variant / "model.onnx", folder / where)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": source.max_length})
    body: dict[str, Any] = {"inputs": "A text."}
    if source.embeds and not source.pools.normalise:
        body["normalize"] = False
    route = "embed" if source.embeds else "predict"
    place_guide(folder, "tei.md", ROUTE=route, BODY=json.dumps(body))
    if source.embeds:
        place_pooling(source, folder)


def refuses(subject: Subject) -> str | None:
    """It serves embeddings, classifiers and rerankers alone."""
    if subject.embeds and subject.pools.mode == "max":
        return "it does not pool by max"
    if subject.longest is None:
        return "it asks for max_position_embeddings, which the config has not"
    if subject.embeds or subject.head == "ForSequenceClassification":
        return None
    return f"it serves embeddings and sequence classifiers, not {subject.architecture}"


STACK = Stack(
    name="tei",
    title="Text Embeddings Inference",
    graphs=GRAPHS,
    write=write,
    probe="tei_probe.py",
    packages=("onnxruntime", "tokenizers", "numpy"),
    modules=("onnxruntime", "tokenizers", "numpy"),
    real="layout only, by the rules of its ONNX Runtime backend; the graph in onnxruntime",
    refuses=refuses,
)
