"""Examples of one split, and how their labels become a model's. Knows no file format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compress.errors import DataError

__all__ = ["Dataset", "Split", "Texts", "encode_labels"]

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
    """

    name: str
    split: Split
    texts: tuple[Texts, ...]
    labels: tuple[str, ...]
    label_names: tuple[str, ...] = ()
    regression: bool = False

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
        return Dataset(
            name=self.name,
            split=self.split,
            texts=tuple(self.texts[i] for i in chosen),
            labels=tuple(self.labels[i] for i in chosen) if self.labels else (),
            label_names=self.label_names,
            regression=self.regression,
        )


def encode_labels(dataset: Dataset, label2id: Mapping[str, int]) -> NDArray[np.float64]:
    """The labels as the model's ids, or as numbers for a regression: `(examples,)`.

    Names decide, since models order their labels differently (MNLI): a name is looked up in the
    model's own `label2id`, then in the task's names; a whole number is taken for the task's name
    at that place where the task has names, and else for itself.

    Args:
        dataset: What to encode.
        label2id: The model's; one entry means a regression.

    Raises:
        DataError: The task does not fit the model, or a label is outside the map.
    """
    if dataset.regression != (len(label2id) == 1):
        wanted = "one output (a regression)" if dataset.regression else "a class per label"
        raise DataError(
            f"task {dataset.name!r} needs a model with {wanted}, found {len(label2id)} "
            f"label{'s' * (len(label2id) != 1)} {sorted(label2id)}; "
            "choose the model's own task"
        )
    if dataset.regression:
        return np.array([_number(dataset, i, label) for i, label in enumerate(dataset.labels)])
    if dataset.label_names and len(dataset.label_names) != len(label2id):
        raise DataError(
            f"task {dataset.name!r} has the {len(dataset.label_names)} labels "
            f"{list(dataset.label_names)}, found a model with {len(label2id)}: "
            f"{sorted(label2id)}; choose the model's own task"
        )
    known = _label_map(dataset.label_names, label2id)
    return np.array([_class(dataset, i, s, known) for i, s in enumerate(dataset.labels)], float)


def _label_map(names: Sequence[str], label2id: Mapping[str, int]) -> dict[str, int]:
    """Every spelling of a label that is understood, with the model's id."""
    model = {name.lower(): i for name, i in label2id.items()}
    task = {name.lower(): model.get(name.lower(), i) for i, name in enumerate(names)}
    digits = {str(i): i for i in range(len(label2id))}
    digits |= {str(i): task[name.lower()] for i, name in enumerate(names)}
    return digits | task | model


def _class(dataset: Dataset, index: int, label: str, known: Mapping[str, int]) -> int:
    found = known.get(label.strip().lower())
    if found is None:
        raise DataError(
            f"{dataset.name} {dataset.split}, example {index + 1}: label must be among "
            f"{sorted(known)}, found {label!r}; correct the file or the model's label2id"
        )
    return found


def _number(dataset: Dataset, index: int, label: str) -> float:
    try:
        value = float(label)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(
            f"{dataset.name} {dataset.split}, example {index + 1}: label must be a finite number, "
            f"found {label!r}; correct the file"
        )
    return value
