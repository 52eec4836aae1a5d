"""A bundle's `serving/`: one folder an order, made from graphs that are exported already."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compress.errors import BundleError
from compress.heads import head_of, stock_class
from compress.pooling import read_pooling
from export.bundle import GRAPH
from export.inputs import longest_sequence
from export.precision import variant
from export.serving.order import SERVING, Order, variants_of
from export.serving.reference import REFERENCE, make_reference
from export.serving.stack import Source, graph_values

__all__ = ["SERVING", "make_source", "write_serving"]

_ENDLESS, _USUAL = 100_000, 512


def make_source(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    checkpoint: Path,
    graphs: Path,
    name: str,
) -> Source:
    """Look at a model and its graphs, and run it on the reference texts.

    Args:
        model: In evaluation mode.
        tokenizer: Of the model.
        checkpoint: Its folder.
        graphs: Its bundle's `onnx/`.
        name: Of the model; what a server would not take is replaced by dashes.

    Raises:
        BundleError: The model takes several texts at a time.
    """
    folders = sorted(path for path in graphs.iterdir() if path.is_dir())
    names, outputs = graph_values(folders[0] / GRAPH)
    int8 = {f.name: f / GRAPH for f in folders if variant(f.name).int8}
    pooling = read_pooling(checkpoint)
    labels: dict[Any, str] = dict(model.config.id2label or {})
    head = head_of(model)
    max_length = _max_length(model, tokenizer, checkpoint)
    return Source(
        graphs=graphs,
        checkpoint=checkpoint,
        name=_served_name(name),
        architecture=stock_class(model).__name__,
        labels=() if head.embeds else tuple(str(labels[i]) for i in sorted(labels)),
        inputs=names,
        outputs=outputs,
        pooling=pooling,
        embeds=head.embeds,
        max_length=max_length,
        reference=make_reference(model, tokenizer, names, pooling, int8, max_length),
    )


def _served_name(name: str) -> str:
    """As Kubernetes and Triton take it: lower case, from a letter on, 50 characters at most."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50].strip("-")
    return plain if plain[:1].isalpha() else f"model-{plain}".strip("-")


def _max_length(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, checkpoint: Path
) -> int:
    """Tokens at which servers cut: the least that folder, tokenizer and model say."""
    own = checkpoint / "sentence_bert_config.json"
    said = json.loads(own.read_text(encoding="utf-8")) if own.is_file() else {}
    limits = [said.get("max_seq_length"), tokenizer.model_max_length, longest_sequence(model)]
    return min([int(n) for n in limits if n and n < _ENDLESS], default=_USUAL)


def write_serving(
    source: Source,
    orders: Sequence[Order],
    folder: Path,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> None:
    """Write `folder/<stack>/` for each order, and the reference beside them.

    Args:
        source: What they are made from.
        orders: Which folders.
        folder: The bundle's `serving/`.
        progress: Told after every folder.

    Raises:
        BundleError: A stack cannot serve the model, or a variant that it takes was not exported.
    """
    missing = [v for v in variants_of(orders) if not (source.graphs / v / GRAPH).is_file()]
    if missing:
        raise BundleError(
            f"serving needs the variant {missing[0]!r}, found none in {source.graphs}; export it"
        )
    for order in orders:
        reason = order.stack.refuses(source)
        if reason:
            raise BundleError(
                f"{order.stack.name} cannot serve this model: {reason}; leave it out of --serve"
            )
    folder.mkdir(parents=True, exist_ok=True)
    source.reference.save(folder / REFERENCE)
    progress("serving", 0, len(orders))
    for done, order in enumerate(orders, start=1):
        order.stack.write(source, folder / order.folder, order.precisions)
        progress("serving", done, len(orders))
