"""Infinity: one `.onnx` a folder, and a line that keeps its own optimiser away from it."""

from __future__ import annotations

import json
from pathlib import Path

from export.serving.stack import Precision, Source, Stack, place_guide, write_json
from export.serving.stacks import optimum
from export.serving.stacks.sentence_transformers import place_pooling
from export.serving.subject import Subject

__all__ = ["STACK"]

_UNCUT = (
    "Infinity does not cut texts for a classifier, and a request with a longer text than the model "
    "takes never ends. Cut texts to {} tokens in the client."
)


def refuses(subject: Subject) -> str | None:
    """It embeds and classifies; pools by the mean or by the first token, and scales to length 1."""
    if subject.head == "ForSequenceClassification":
        return None if len(subject.labels) > 1 else "it gives no answer where there is one output"
    if not subject.embeds:
        return f"it serves embeddings and sequence classifiers, not {subject.architecture}"
    if subject.pools.mode == "max":
        return "Infinity does not pool by max"
    return None if subject.pools.normalise else "Infinity scales vectors to length 1"


def write(source: Source, folder: Path, precisions: tuple[Precision, ...]) -> None:
    """Optimum's layout, pooling, and how to start the server.

    Left to itself, it runs ONNX Runtime's optimiser with the config's one head count, which gives
    wrong outputs where layers have different ones.
    """
    optimum.write(source, folder, precisions)
    if source.embeds:
        place_pooling(source, folder)
        # Infinity cuts texts at this field of the config, whatever the tokenizer says.
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").unlink()
        write_json(folder / "config.json", config | {"max_position_embeddings": source.max_length})
    pooling = f" --pooling-method {source.reference.reduce}" if source.embeds else ""
    limit = "" if source.embeds else f"\n{_UNCUT.format(source.max_length)}\n"
    place_guide(folder, "infinity.md", POOLING=pooling, LIMIT=limit)


STACK = Stack(
    name="infinity",
    title="Infinity",
    graphs={k: v for k, v in optimum.GRAPHS.items() if k != "fp16"},
    write=write,
    cuts_left=True,
    own_tokenizer=True,
    probe="infinity_probe.py",
    packages=("infinity-emb[optimum]==0.0.78", "torch>=2.9,<2.14"),
    modules=("infinity_emb",),
    real="infinity-emb 0.0.78, its optimum engine, with its optimiser disabled",
    refuses=refuses,
)
