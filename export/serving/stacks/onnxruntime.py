"""ONNX Runtime from Python: a graph, a tokenizer, and twenty lines without torch."""

from __future__ import annotations

from pathlib import Path

from export.serving.stack import Precision, Source, Stack, place_guide, template
from export.serving.stacks.optimum import GRAPHS
from export.serving.stacks.optimum import write as write_folder

__all__ = ["STACK"]


def write(source: Source, folder: Path, precisions: tuple[Precision, ...]) -> None:
    """A folder for Optimum, and an example that needs onnxruntime, tokenizers and numpy alone."""
    write_folder(source, folder, precisions)
    text = template("example.py.in", LENGTH=str(source.max_length))
    (folder / "example.py").write_text(text, encoding="utf-8")
    place_guide(folder, "onnxruntime.md", PACKAGES="onnxruntime tokenizers numpy")


STACK = Stack(
    name="onnxruntime",
    title="ONNX Runtime (Python)",
    graphs=GRAPHS,
    write=write,
    probe="onnxruntime_probe.py",
    packages=("onnxruntime", "tokenizers", "numpy"),
    modules=("onnxruntime", "tokenizers", "numpy"),
    real="the folder's own example.py, with onnxruntime, tokenizers and numpy",
)
