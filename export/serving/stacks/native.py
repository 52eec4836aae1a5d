"""Rust, Java, C#, C++, Go: the graphs as they are, and the contract that a client must keep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from export.precision.variants import VariantName
from export.serving.stack import (
    Precision,
    Source,
    Stack,
    place_graph,
    place_tokenizer,
    template,
    write_json,
)

__all__ = ["STACK"]

GRAPHS: dict[Precision, tuple[str, VariantName]] = {
    "fp32": ("model.onnx", "cpu-fp32"),
    "int8": ("model_int8.onnx", "cpu-int8"),
    "fp16": ("model_fp16.onnx", "portable-fp16"),
}
_SHOWN = 3


def write(source: Source, folder: Path, precisions: tuple[Precision, ...]) -> None:
    """Graphs, tokenizer, and `CONTRACT.md` with token ids and answers to test a client by."""
    place_tokenizer(source, folder)
    for precision in precisions:
        where, variant = GRAPHS[precision]
        place_graph(source, variant, folder / where)
    reference = source.reference
    rows: list[dict[str, Any]] = []
    for i, ids in enumerate(reference.ids):
        feed = {"input_ids": list(ids), "attention_mask": [1] * len(ids)}
        if reference.types:
            feed["token_type_ids"] = list(reference.types[i])
        inputs = {name: feed[name] for name in source.inputs}
        rows.append({"text": reference.texts[i], "inputs": inputs,
                     "vector": [float(f"{v:.7g}") for v in reference.vectors[i]]})  # fmt: skip
    write_json(folder / "examples.json", rows)
    outputs = "\n".join(
        f"| `{name}` | float32 | {' × '.join(map(str, dims))} |"
        for name, dims in source.outputs.items()
    )
    text = template(
        "contract.md",
        GRAPHS=", ".join(f"`{GRAPHS[p][0]}` ({p})" for p in precisions),
        INPUTS="\n".join(f"| `{name}` | int64 | batch × sequence |" for name in source.inputs),
        OUTPUTS=outputs,
        REDUCE=_reduction(source),
        LABELS=", ".join(f"{i} = {name}" for i, name in enumerate(source.labels)) or "none",
        LENGTH=_length(source),
        EXAMPLE=json.dumps(rows[2]["inputs"]),
        VECTOR=json.dumps(rows[2]["vector"][:_SHOWN]),
    )
    (folder / "CONTRACT.md").write_text(text, encoding="utf-8")


def _length(source: Source) -> str:
    if source.longest is not None and source.max_length >= source.longest:
        return f"{source.max_length} tokens, and the graph takes no more"
    return f"{source.max_length} tokens here; the graph takes more"


def _reduction(source: Source) -> str:
    reference = source.reference
    if reference.reduce == "none":
        return f"The answer is `{reference.output}`, one row a text."
    if reference.reduce == "ramp":
        return (
            f"The answer is `{reference.output}`, one row a token; `vector` in examples.json is "
            "the rows' mean weighted by place: 1 for the first token, 2 for the second, and so on."
        )
    how = {"mean": "the mean over", "max": "the largest over", "cls": "the first of"}
    scaled = ", scaled to length 1" if reference.normalise else ""
    return (
        f"One vector a text is {how[reference.reduce]} the rows of `{reference.output}` whose "
        f"`attention_mask` is 1{scaled}."
    )


STACK = Stack(
    name="native",
    title="Rust, Java, C#, C++, Go",
    graphs=GRAPHS,
    default_precisions=("fp32", "int8"),
    write=write,
    probe="native_probe.mjs",
    packages=("onnxruntime-node",),
    modules=("onnxruntime-node",),
    real="onnxruntime-node, token ids of examples.json",
)
