"""Optimum's ORTModelFor…: one graph, config and tokenizer in a folder."""

from __future__ import annotations

from pathlib import Path

from export.precision.variants import VariantName
from export.serving.stack import Precision, Source, Stack, place_guide, place_whole

__all__ = ["GRAPHS", "STACK", "write"]

GRAPHS: dict[Precision, tuple[str, VariantName]] = {
    "fp32": ("model.onnx", "cpu-fp32"),
    "int8": ("model.onnx", "cpu-int8"),
    "fp16": ("model.onnx", "cuda-fp16"),
}


def write(source: Source, folder: Path, precisions: tuple[Precision, ...]) -> None:
    """`model.onnx`, `config.json` and the tokenizer's files."""
    place_whole(source, GRAPHS[precisions[0]][1], folder)
    kind = f"ORTModel{source.head or 'ForFeatureExtraction'}"
    place_guide(folder, "optimum.md", CLASS=kind)


STACK = Stack(
    name="optimum",
    title="Optimum ORTModel, pipeline",
    graphs=GRAPHS,
    write=write,
    cuts_left=True,
    own_tokenizer=True,
    probe="optimum_probe.py",
    packages=(
        "optimum-onnx[onnxruntime]>=0.1",
        "transformers>=4.57,<4.58",
        "sentence-transformers<6",
        "torch>=2.9,<2.14",
    ),
    modules=("optimum.onnxruntime",),
    real="optimum-onnx 0.1 with transformers 4.57: from_pretrained and pipeline",
)
