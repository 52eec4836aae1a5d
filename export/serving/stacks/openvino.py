"""OpenVINO: the portable graph, which it reads as it is, and its own IR where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from export.precision.variants import VariantName
from export.serving.stack import Precision, Source, Stack, place_guide, place_whole

__all__ = ["STACK"]

GRAPHS: dict[Precision, tuple[str, VariantName]] = {
    "fp32": ("model.onnx", "portable"),
    "int8": ("model.onnx", "portable-int8"),
    "fp16": ("model.onnx", "portable-fp16"),
}


def write(source: Source, folder: Path, precisions: tuple[Precision, ...]) -> None:
    """`model.onnx`, config and tokenizer; `model.xml` and `model.bin` if `openvino` is here."""
    place_whole(source, GRAPHS[precisions[0]][1], folder)
    place_guide(folder, "openvino.md", LENGTH=str(source.max_length))
    if find_spec("openvino") is not None:
        import openvino

        model = openvino.convert_model(folder / "model.onnx")
        openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)


STACK = Stack(
    name="openvino",
    title="OpenVINO",
    graphs=GRAPHS,
    write=write,
    probe="openvino_probe.py",
    packages=("openvino", "tokenizers", "numpy"),
    modules=("openvino", "tokenizers", "numpy"),
    real="openvino, graph and IR",
)
