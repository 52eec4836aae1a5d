"""Examples of one split. Knows no file format."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

__all__ = ["Dataset", "Split", "Texts"]

Texts: TypeAlias = tuple[str, ...]
"""One example's text: one sentence, or a pair."""

Split: TypeAlias = Literal["train", "validation"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """One split as it stands in its file.

    Attributes:
        name: The task's.
        split: `train` or `validation`.
        texts: One entry an example.
        labels: As written in the file; empty where there are none.
        label_names: The task's own names in order of their ids; empty where they are unknown.
        regression: Labels are numbers to predict, not classes.
        file: Where it was read from, for messages; empty where that is no file of the user's.
    """

    name: str
    split: Split
    texts: tuple[Texts, ...]
    labels: tuple[str, ...]
    label_names: tuple[str, ...] = ()
    regression: bool = False
    file: str = ""

    @property
    def place(self) -> str:
        """The file, or task and split, for messages."""
        return self.file or f"{self.name} {self.split}"

    def __len__(self) -> int:
        return len(self.texts)

    def content_hash(self) -> str:
        """SHA-256 of all texts and labels, in order."""
        plain = json.dumps([self.texts, self.labels], ensure_ascii=False)
        return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()

    def sample(self, count: int, seed: int) -> Dataset:
        """`count` examples drawn without replacement; all of them if there are no more."""
        if count >= len(self):
            return self
        chosen = np.random.default_rng(seed).permutation(len(self))[:count]
        return replace(
            self,
            texts=tuple(self.texts[i] for i in chosen),
            labels=tuple(self.labels[i] for i in chosen) if self.labels else (),
        )
