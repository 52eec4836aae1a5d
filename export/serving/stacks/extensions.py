"""Tokenizer in the graph: text in, the model's outputs out, through onnxruntime-extensions.

For BERT's WordPiece tokenizers. The library gives a word that holds a piece outside the vocabulary
its known pieces first, where the tokenizer gives one unknown token.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.precision.variants import VariantName
from export.serving.stack import Precision, Source, Stack, place_guide, template
from export.serving.subject import Subject

__all__ = ["STACK", "tokenizer_nodes"]

GRAPHS: dict[Precision, tuple[str, VariantName]] = {
    "fp32": ("model.onnx", "cpu-fp32"),
    "int8": ("model.onnx", "cpu-int8"),
}
_DOMAIN = "ai.onnx.contrib"
_SPECIAL = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
_FIELDS = ("input_ids", "token_type_ids", "attention_mask")


def write(source: Source, folder: Path, precisions: tuple[Precision, ...]) -> None:
    """One graph whose input is `text`: one string, or two for a pair."""
    where, variant = GRAPHS[precisions[0]]
    origin = source.graphs / variant / "model.onnx"
    model = onnx.load(origin)
    nodes, constants = tokenizer_nodes(source.tokenizer, source.max_length)
    nodes += [
        helper.make_node("Unsqueeze", [f"{name}_row", "text_0"], [name]) for name in source.inputs
    ]
    nodes += list(model.graph.node)
    del model.graph.node[:], model.graph.input[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    model.graph.input.append(helper.make_tensor_value_info("text", TensorProto.STRING, ["texts"]))
    model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    folder.mkdir(parents=True, exist_ok=True)
    large = origin.with_name("model.onnx_data").is_file()
    location = "model.onnx_data" if large else None
    onnx.save(model, folder / where, save_as_external_data=large, location=location)
    (folder / "example.py").write_text(template("text_graph.py.in"), encoding="utf-8")
    packages = "onnxruntime onnxruntime-extensions numpy"
    place_guide(folder, "onnxruntime.md", PACKAGES=packages)


def tokenizer_nodes(
    described: Mapping[str, Any], max_length: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """From `text` to `input_ids_row`, `token_type_ids_row` and `attention_mask_row`, and constants.

    What is longer than `max_length` loses tokens before its last one, the separator: of a text as
    the fast tokenizer does; of a pair from its end, where that takes from the longer of the two.
    """
    constants = {"text_0": 0, "text_last": -1, "text_most": max_length - 1, "text_end": 2**62}
    nodes = [_tokenizer_node(described)]
    for name in _FIELDS:
        whole, start, head, last = (f"{name}_{part}" for part in ("whole", "start", "head", "last"))
        nodes += [
            helper.make_node("Slice", [whole, "text_0", "text_last"], [start]),
            helper.make_node("Slice", [start, "text_0", "text_most"], [head]),
            helper.make_node("Slice", [whole, "text_last", "text_end"], [last]),
            helper.make_node("Concat", [head, last], [f"{name}_row"], axis=0),
        ]
    arrays = [numpy_helper.from_array(np.array([v], np.int64), k) for k, v in constants.items()]
    return nodes, arrays


def _tokenizer_node(described: Mapping[str, Any]) -> onnx.NodeProto:
    """onnxruntime-extensions' BertTokenizer with a tokenizer.json's vocabulary and rules."""
    model, rules = described["model"], described["normalizer"] or {}
    words = sorted(model["vocab"], key=model["vocab"].__getitem__)
    lower = bool(rules.get("lowercase"))
    accents = rules.get("strip_accents")
    return helper.make_node(
        "BertTokenizer",
        ["text"],
        [f"{name}_whole" for name in _FIELDS],
        domain=_DOMAIN,
        vocab_file="\n".join(words),
        do_lower_case=int(lower),
        do_basic_tokenize=1,
        tokenize_chinese_chars=int(bool(rules.get("handle_chinese_chars", True))),
        strip_accents=int(lower if accents is None else accents),
        suffix_indicator=model["continuing_subword_prefix"],
        **_SPECIAL,
    )


def refuses(subject: Subject) -> str | None:
    """Other tokenizers than BERT's differ here or there, or are not known."""
    found = subject.tokenizer
    model = found.get("model") or {}
    words = model.get("vocab") or {}
    rules = (found.get("normalizer") or {}).get("type")
    if subject.splits_by == "WordPiece" and rules == "BertNormalizer":
        if not words.keys() >= set(_SPECIAL.values()):
            return f"its tokenizer's special tokens are not {', '.join(_SPECIAL.values())}"
        if model.get("unk_token") != "[UNK]" or not _wraps_as_bert(found.get("post_processor")):
            return "it does not put [CLS] before and [SEP] after each text as BERT does"
        if sorted(words.values()) != list(range(len(words))):
            return "its vocabulary has gaps"
        added = [t["content"] for t in found.get("added_tokens") or [] if not t.get("special")]
        if added or any(t not in words for t in _added(found)):
            return f"it has added tokens, such as {(added or list(_added(found)))[0]!r}"
        return None
    return (
        f"its tokenizer is {subject.splits_by or 'in no tokenizer.json'} and not BERT's WordPiece"
    )


def _added(described: Mapping[str, Any]) -> list[str]:
    return [str(token["content"]) for token in described.get("added_tokens") or []]


def _wraps_as_bert(rules: Mapping[str, Any] | None) -> bool:
    """Whether a post-processor makes `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`."""
    rules = rules or {}
    if rules.get("type") == "BertProcessing":
        return (rules["cls"][0], rules["sep"][0]) == ("[CLS]", "[SEP]")
    if rules.get("type") != "TemplateProcessing":
        return False
    single, pair = (
        [next(iter(piece.values()))["id"] for piece in rules[name]] for name in ("single", "pair")
    )
    return single == ["[CLS]", "A", "[SEP]"] and pair == ["[CLS]", "A", "[SEP]", "B", "[SEP]"]


STACK = Stack(
    name="extensions",
    title="onnxruntime-extensions, text in",
    graphs=GRAPHS,
    write=write,
    probe="onnxruntime_probe.py",
    packages=("onnxruntime", "onnxruntime-extensions", "tokenizers", "numpy"),
    modules=("onnxruntime", "onnxruntime_extensions", "numpy"),
    real="onnxruntime with onnxruntime-extensions, strings in",
    refuses=refuses,
)
