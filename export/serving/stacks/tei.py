"""Text Embeddings Inference, its ONNX Runtime backend: CPU images, float32."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.precision.variants import VariantName
from export.serving.downgrade_opset import downgrade_opset
from export.serving.stack import (
    Precision,
    Source,
    Stack,
    place_config,
    place_guide,
    place_tokenizer,
    write_json,
)
from export.serving.stacks.sentence_transformers import place_pooling
from export.serving.subject import Subject

__all__ = ["STACK"]

GRAPHS: dict[Precision, tuple[str, VariantName]] = {"fp32": ("onnx/model.onnx", "cpu-fp32")}

_FIELDS = {
    "hidden_size": ("dim", "d_model"),
    "num_hidden_layers": ("n_layers", "n_layer"),
    "num_attention_heads": ("n_heads", "n_head"),
    "intermediate_size": ("hidden_dim", "d_inner"),
}
"""Fields that the server reads, and what some families call them."""


def write(source: Source, folder: Path, precisions: tuple[Precision, ...]) -> None:
    """The graph in `onnx/` with the oldest stamps that it can carry; pooling beside the config."""
    place_config(source, folder)
    _complete_config(folder / "config.json", source.labels)
    place_tokenizer(source, folder)
    where, variant = GRAPHS[precisions[0]]
    downgrade_opset(source.graphs / variant / "model.onnx", folder / where)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": source.max_length})
    body: dict[str, Any] = {"inputs": "A text."}
    if source.embeds and not source.pools.normalise:
        body["normalize"] = False
    if len(source.labels) == 1 or source.problem == "multi_label_classification":
        body["raw_scores"] = True  # it would squash one score, and share several out
    route = "embed" if source.embeds else "predict"
    place_guide(folder, "tei.md", ROUTE=route, BODY=json.dumps(body))
    if source.embeds:
        place_pooling(source, folder)


def _complete_config(path: Path, labels: Sequence[str]) -> None:
    """Add the fields that the server wants of every model, where a family calls them otherwise."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for name, others in _FIELDS.items():
        known = next((config[other] for other in others if other in config), None)
        if known is not None:
            config.setdefault(name, known)
    if labels:
        config.setdefault("id2label", {str(i): name for i, name in enumerate(labels)})
        config.setdefault("label2id", {name: i for i, name in enumerate(labels)})
    write_json(path, config)


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
