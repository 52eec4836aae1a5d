"""A browser: the portable int8 graph and one page that runs it, with no server behind."""

from __future__ import annotations

import json
from pathlib import Path

from export.serving.stack import Precision, Source, Stack, place_guide, template
from export.serving.stacks import transformers_js
from export.serving.subject import Subject

__all__ = ["STACK"]


def write(source: Source, folder: Path, precisions: tuple[Precision, ...]) -> None:
    """transformers.js' layout and `index.html`."""
    transformers_js.write(source, folder, precisions)
    page = template(
        "browser.html",
        NAME=source.name,
        DTYPE=transformers_js.DTYPES[precisions[0]],
        LABELS=json.dumps(source.labels).replace("<", "\\u003c"),
        REDUCE=json.dumps(source.reference.reduce),
        NORMALISE=json.dumps(source.reference.normalise),
        LENGTH=str(source.max_length),
        PROBLEM=json.dumps(source.problem).replace("<", "\\u003c"),
    )
    place_guide(folder, "browser.md")
    (folder / "index.html").write_text(page, encoding="utf-8")


def refuses(subject: Subject) -> str | None:
    """The page shows classes, a score or a vector."""
    if subject.embeds or subject.head == "ForSequenceClassification":
        return transformers_js.unknown_tokenizer(subject)
    return f"its page shows classes and vectors, not what {subject.architecture} gives"


STACK = Stack(
    name="browser",
    title="Browser",
    graphs={p: transformers_js.GRAPHS[p] for p in ("fp32", "int8")},
    default_precisions=("int8",),
    write=write,
    drives_browser=True,
    probe="browser_probe.py",
    packages=("@huggingface/transformers",),
    modules=("@huggingface/transformers",),
    real="onnxruntime-web in headless Chromium, the folder's own page",
    refuses=refuses,
)
