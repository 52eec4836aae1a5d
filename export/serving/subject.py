"""What is to be served, as stacks ask before they take it. Knows no stack and no graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.model.pooling import Pooling

__all__ = ["HEADS", "Subject"]

HEADS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMaskedLM",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What is to be served, as far as it is known before anything is exported.

    Attributes:
        checkpoint: The weights in torch's shape, as `prune` or the user wrote them.
        architecture: The class that `config.json` names.
        labels: Names of the classes in order of their numbers.
        pooling: Pooling by the folder's own files, if it is an embedding model.
        embeds: Whether the model gives token states and has no head.
        max_length: Tokens at which a server is to cut a text.
        longest: Tokens that the model has positions for; none where it counts none.
        problem: The config's `problem_type`, as a pipeline turns logits into scores by it.
        cuts_left: Whether the tokenizer cuts long texts on the left.
        tokenizer: Content of `tokenizer.json`; empty if there is none.
    """

    checkpoint: Path
    architecture: str
    labels: tuple[str, ...]
    pooling: Pooling | None
    embeds: bool
    max_length: int
    longest: int | None
    problem: str
    cuts_left: bool
    tokenizer: Mapping[str, Any]

    @property
    def pools(self) -> Pooling:
        """How tokens become one vector: by the mean where nothing is said."""
        return self.pooling or Pooling(mode="mean", normalise=False)

    @property
    def head(self) -> str:
        """The end of the class's name, such as `ForSequenceClassification`; empty for none."""
        return next((head for head in HEADS if self.architecture.endswith(head)), "")

    @property
    def splits_by(self) -> str | None:
        """Kind of the tokenizer's model, such as `WordPiece`."""
        kind: str | None = (self.tokenizer.get("model") or {}).get("type")
        return kind
