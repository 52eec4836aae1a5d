"""A bundle's `serving/`: one folder per target, made from graphs that are exported already."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compress.errors import BundleError
from compress.model.pooling import read_pooling
from compress.model.task_head import head_of, stock_class
from export.bundle import GRAPH
from export.graph.inputs import longest_sequence
from export.precision.variants import variant
from export.serving.reference import REFERENCE, make_reference
from export.serving.stack import Source, graph_values
from export.serving.subject import Subject
from export.serving.target import SERVING, ServingTarget, variants_of

__all__ = ["SERVING", "check_served", "describe", "make_source", "write_serving"]

_ENDLESS, _USUAL = 100_000, 512
_CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification")


def make_source(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    checkpoint: Path,
    graphs: Path,
    name: str,
) -> Source:
    """Look at a model and its graphs, and run it on the reference texts.

    Args:
        model: A model in evaluation mode.
        tokenizer: The model's tokenizer.
        checkpoint: Its folder.
        graphs: Its bundle's `onnx/`.
        name: Name of the model; characters that servers refuse become dashes.

    Raises:
        BundleError: See `describe`.
    """
    subject = describe(model, tokenizer, checkpoint)
    folders = sorted(path for path in graphs.iterdir() if path.is_dir())
    names, outputs = graph_values(folders[0] / GRAPH)
    int8 = {f.name: f / GRAPH for f in folders if variant(f.name).int8}
    reference = make_reference(model, tokenizer, names, subject, int8)
    return Source(
        **{field.name: getattr(subject, field.name) for field in fields(subject)},
        graphs=graphs,
        name=_served_name(name),
        inputs=names,
        outputs=outputs,
        reference=reference,
    )


def describe(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, checkpoint: Path
) -> Subject:
    """What stacks ask of a model before they take it.

    Raises:
        BundleError: The model takes several texts at a time.
    """
    head = head_of(model)
    if head.choices:
        raise BundleError(
            "a serving folder must be of a model that takes one text or one pair at a time, found "
            "a multiple-choice head; serve its graph in onnx/ by hand"
        )
    labels: dict[Any, str] = dict(model.config.id2label or {})
    fast = getattr(tokenizer, "backend_tokenizer", None)
    return Subject(
        checkpoint=checkpoint,
        architecture=stock_class(model).__name__,
        labels=tuple(str(labels[i]) for i in sorted(labels)) if head.suffix in _CLASSIFIERS else (),
        pooling=read_pooling(checkpoint),
        embeds=head.embeds,
        max_length=_max_length(model, tokenizer, checkpoint),
        longest=longest_sequence(model),
        problem=getattr(model.config, "problem_type", None) or "",
        cuts_left=getattr(tokenizer, "truncation_side", "right") == "left",
        tokenizer={} if fast is None else json.loads(fast.to_str()),
    )


def check_served(targets: Sequence[ServingTarget], subject: Subject) -> None:
    """Refuse a stack that cannot serve the model, before anything is exported.

    Raises:
        BundleError: It cannot; the message says why.
    """
    for target in targets:
        reason = target.stack.refuses(subject)
        if not subject.tokenizer and not target.stack.own_tokenizer:
            reason = "its tokenizer has no tokenizer.json, which that stack reads"
        if subject.cuts_left and not target.stack.cuts_left:
            reason = "its tokenizer cuts long texts on the left, and that stack on the right"
        asked = None if subject.pooling is None else subject.pooling.unserved
        if asked and not target.stack.reads_settings:
            reason = f"it asks for {asked}, which that stack does not do"
        if reason:
            raise BundleError(
                f"{target.stack.name} cannot serve this model: {reason}; leave it out"
            )


def _served_name(name: str) -> str:
    """As Kubernetes and Triton take it: lower case, from a letter on, 50 characters at most."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50].strip("-")
    return plain if plain[:1].isalpha() else f"model-{plain}".strip("-")


def _max_length(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, checkpoint: Path
) -> int:
    """Tokens at which servers cut: the least that folder, tokenizer and model say."""
    pooling = read_pooling(checkpoint)
    limits = [pooling and pooling.max_length, tokenizer.model_max_length, longest_sequence(model)]
    return min([int(n) for n in limits if n and n < _ENDLESS], default=_USUAL)


def write_serving(
    source: Source,
    targets: Sequence[ServingTarget],
    folder: Path,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> None:
    """Write `folder/<stack>/` for each target, and the reference beside them.

    Args:
        source: What the folders are made from.
        targets: Which folders.
        folder: The bundle's `serving/`.
        progress: Called after every folder.

    Raises:
        BundleError: A stack cannot serve the model, or a variant that it takes was not exported.
    """
    missing = [v for v in variants_of(targets) if not (source.graphs / v / GRAPH).is_file()]
    if missing:
        raise BundleError(
            f"serving needs the variant {missing[0]!r}, found none in {source.graphs}; export it"
        )
    check_served(targets, source)
    folder.mkdir(parents=True, exist_ok=True)
    source.reference.save(folder / REFERENCE)
    progress("serving", 0, len(targets))
    for done, target in enumerate(targets, start=1):
        target.stack.write(source, folder / target.folder, target.precisions)
        progress("serving", done, len(targets))
