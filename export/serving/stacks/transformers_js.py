"""transformers.js, in Node or in a browser: graphs in `onnx/`, named by precision."""

from __future__ import annotations

import json
from pathlib import Path

from export.precision.variants import VariantName
from export.serving.stack import (
    Precision,
    Source,
    Stack,
    place_config,
    place_graph,
    place_guide,
    place_tokenizer,
    template,
)
from export.serving.subject import HEADS, Subject

__all__ = ["DTYPES", "GRAPHS", "STACK", "refuses", "unknown_tokenizer", "write"]

GRAPHS: dict[Precision, tuple[str, VariantName]] = {
    "fp32": ("onnx/model.onnx", "portable"),
    "fp16": ("onnx/model_fp16.onnx", "portable-fp16"),
    "int8": ("onnx/model_quantized.onnx", "portable-int8"),
}
DTYPES: dict[Precision, str] = {"fp32": "fp32", "fp16": "fp16", "int8": "q8"}
_TASKS = {
    "ForSequenceClassification": ("text-classification", '"A text."'),
    "ForTokenClassification": ("token-classification", '"A text."'),
    "ForQuestionAnswering": ("question-answering", '"Who sings?", "Anna sings."'),
    "ForMaskedLM": ("fill-mask", '"A " + run.tokenizer.mask_token + "."'),
}
_TOKENIZERS = ("WordPiece", "BPE", "Unigram")


def write(source: Source, folder: Path, precisions: tuple[Precision, ...]) -> None:
    """`config.json` and the tokenizer's files at the top, graphs of standard operators below."""
    place_config(source, folder)
    place_tokenizer(source, folder)
    for precision in precisions:
        where, variant = GRAPHS[precision]
        place_graph(source, variant, folder / where)
    closing = template(
        "closing.mjs",
        CLOSING=json.dumps(source.reference.closing),
        LENGTH=str(source.max_length),
    )
    (folder / "closing.mjs").write_text(closing, encoding="utf-8")
    task, call = _TASKS.get(source.head, ("feature-extraction", '"A text."'))
    place_guide(
        folder,
        "transformers_js.md",
        TASK=task,
        CALL=call,
        LENGTH=str(source.max_length),
        DTYPE=DTYPES[precisions[-1]],
        GRAPHS=", ".join(f"`{DTYPES[p]}` is `{GRAPHS[p][0]}`" for p in precisions),
    )


def refuses(subject: Subject) -> str | None:
    """Its classes are transformers' own, and it knows three kinds of tokenizers."""
    if not subject.architecture.endswith(("Model", *HEADS)):
        return f"transformers.js has no class for {subject.architecture}"
    if subject.head == "ForSequenceClassification" and len(subject.labels) == 1:
        return "its pipeline shares one score out among one label, which gives 1 for every text"
    if subject.problem == "regression":
        return "its pipeline takes numbers for classes, and shares 1 out among them"
    return unknown_tokenizer(subject)


def unknown_tokenizer(subject: Subject) -> str | None:
    """Why transformers.js would split texts otherwise, if it would."""
    if subject.splits_by in _TOKENIZERS:
        return None
    return f"transformers.js splits by {', '.join(_TOKENIZERS)} alone, not {subject.splits_by}"


STACK = Stack(
    name="transformers-js",
    title="transformers.js (Node)",
    graphs=GRAPHS,
    default_precisions=("fp32", "fp16", "int8"),
    write=write,
    probe="transformers_js_probe.mjs",
    packages=("@huggingface/transformers",),
    modules=("@huggingface/transformers",),
    real="@huggingface/transformers with onnxruntime-node, on Node",
    refuses=refuses,
)
