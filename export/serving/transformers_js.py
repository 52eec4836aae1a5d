"""transformers.js, in Node or in a browser: graphs in `onnx/`, named by precision."""

from __future__ import annotations

from pathlib import Path

from export.precision import VariantName
from export.serving.stack import (
    Precision,
    Source,
    Stack,
    place_config,
    place_graph,
    place_tokenizer,
)

__all__ = ["GRAPHS", "STACK", "refuses", "write"]

GRAPHS: dict[Precision, tuple[str, VariantName]] = {
    "fp32": ("onnx/model.onnx", "portable"),
    "fp16": ("onnx/model_fp16.onnx", "portable-fp16"),
    "int8": ("onnx/model_quantized.onnx", "portable-int8"),
}
_KNOWN = (
    "Model",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMaskedLM",
)


def write(source: Source, folder: Path, precisions: tuple[Precision, ...]) -> None:
    """`config.json` and the tokenizer's files at the top, graphs of standard operators below."""
    place_config(source, folder)
    place_tokenizer(source, folder)
    for precision in precisions:
        where, variant = GRAPHS[precision]
        place_graph(source, variant, folder / where)


def refuses(source: Source) -> str | None:
    """Its classes are transformers' own."""
    if source.architecture.endswith(_KNOWN):
        return None
    return f"transformers.js has no class for {source.architecture}"


STACK = Stack(
    name="transformers-js",
    title="transformers.js (Node)",
    graphs=GRAPHS,
    first=("fp32", "fp16", "int8"),
    write=write,
    probe="transformers_js_probe.mjs",
    packages=("@huggingface/transformers",),
    modules=("@huggingface/transformers",),
    real="@huggingface/transformers with onnxruntime-node, on Node",
    refuses=refuses,
)
