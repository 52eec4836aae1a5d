"""The model card of a bundle: what it came from, what it keeps, and how each stack loads it.

Hugging Face's front matter at the top. Measures nothing, and opens no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.report.templates import render

__all__ = ["CARD", "Base", "Card", "read_base", "write_card"]

CARD = "README.md"
_CARRIED = ("license", "license_name", "license_link", "language", "datasets")
_PIPELINES = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForMultipleChoice": "multiple-choice",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """What the bundle was made from.

    Attributes:
        name: As the user gave it.
        hub: Whether that is a Hub id, which a card may link to.
        carried: Of its own card's front matter: licence, language, data sets.
    """

    name: str
    hub: bool
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """What a card tells.

    Attributes:
        name: Of the bundle.
        architecture: Class of the model.
        base: What it was made from.
        exported: One record a variant, as the manifest has them.
        serving: Stack and folder of each serving folder.
        report: Of a run, if there was one.
        pooling: How an embedding model pools: `mean`, `cls` or `max`.
    """

    name: str
    architecture: str
    base: Base
    exported: Sequence[Mapping[str, Any]]
    serving: Sequence[tuple[str, str]] = ()
    report: Mapping[str, Any] | None = None
    pooling: str | None = None


def read_base(name: str, folder: Path) -> Base:
    """A model's name and what its own card says that must go on.

    Args:
        name: As the user gave it.
        folder: Where its files lie.
    """
    carried: dict[str, Any] = {}
    card = folder / CARD
    if card.is_file():
        front = _front_matter(card.read_text(encoding="utf-8-sig", errors="replace"))
        carried = {key: front[key] for key in _CARRIED if front.get(key)}
    hub = not Path(name).exists()
    return Base(name=name if hub else Path(name).resolve().name, hub=hub, carried=carried)


def write_card(card: Card, folder: Path) -> None:
    """Write `README.md` into a folder that exists."""
    front = yaml.safe_dump(_front(card), sort_keys=False, allow_unicode=True)
    facts = {"card": card, "front": front, "report": card.report}
    (folder / CARD).write_text(render("card.md.jinja", facts), encoding="utf-8")


def _front(card: Card) -> dict[str, Any]:
    front = dict(card.base.carried)
    if card.base.hub:
        front["base_model"] = card.base.name.partition("@")[0]
    front["pipeline_tag"] = _pipeline(card)
    front["library_name"] = "onnx"
    front["tags"] = ["onnx", "onnxruntime", "compress-export"]
    if card.report and card.report["accuracy"]:
        front["model-index"] = [{"name": card.name, "results": _results(card)}]
    return front


def _pipeline(card: Card) -> str:
    if card.pooling is not None:
        return "sentence-similarity"
    found = [task for end, task in _PIPELINES.items() if card.architecture.endswith(end)]
    return found[0] if found else "feature-extraction"


def _results(card: Card) -> list[dict[str, Any]]:
    """Accuracies of the bundle's graphs, as Hugging Face's model index wants them."""
    assert card.report is not None
    return [
        {
            "task": {"type": _pipeline(card)},
            "dataset": {"name": row["task"], "type": row["task"], "split": "validation"},
            "metrics": [
                {
                    "type": row["metric"],
                    "value": round(row["student"], 4),
                    "name": f"{row['metric']} ({row['variant']})",
                }
            ],
        }
        for row in card.report["accuracy"]
    ]


def _front_matter(text: str) -> dict[str, Any]:
    """The YAML between a card's first two lines of dashes; nothing where there is none."""
    parts = text.split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        found = yaml.load(parts[1], yaml.BaseLoader)  # texts alone: "no" is a language
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}
