"""Infinity: one `.onnx` a folder, and a line that keeps its own optimiser away from it."""

from __future__ import annotations

from pathlib import Path

from export.serving import optimum
from export.serving.sentence_transformers import place_pooling
from export.serving.stack import Precision, Source, Stack, place_guide
from export.serving.subject import Subject

__all__ = ["STACK"]


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
    pooling = f" --pooling-method {source.reference.reduce}" if source.embeds else ""
    place_guide(folder, "infinity.md", POOLING=pooling)


STACK = Stack(
    name="infinity",
    title="Infinity",
    graphs={k: v for k, v in optimum.GRAPHS.items() if k != "fp16"},
    write=write,
    cuts_left=True,
    reads_settings=True,
    own_tokenizer=True,
    probe="infinity_probe.py",
    packages=("infinity-emb[optimum]==0.0.78", "torch>=2.9,<2.14"),
    modules=("infinity_emb",),
    real="infinity-emb 0.0.78, its optimum engine, with its optimiser disabled",
    refuses=refuses,
)
