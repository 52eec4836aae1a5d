"""Accuracy of teacher and student on the same examples, and what the student kept of it.

Opens graphs through a runtime; never looks inside a model.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax
from transformers import PreTrainedTokenizerBase

from benchmarks.significance import mcnemar, ratio, retention_interval
from benchmarks.tasks import METRICS, Dataset, predictions, task_order, tokenise
from compress.errors import DataError

__all__ = [
    "Accuracy",
    "Predicted",
    "compare",
    "compare_seeds",
    "disagreements",
    "doubt",
    "in_task_order",
    "predict",
]

Array: TypeAlias = NDArray[np.float64]
Logits: TypeAlias = NDArray[np.float32]
Runner: TypeAlias = Callable[[dict[str, NDArray[np.int64]]], Logits]

_AT = " @ "
_TEXT = 240


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """One metric of one variant, teacher beside student.

    Attributes:
        task, metric, variant: What was measured.
        examples: How many.
        teacher, student: The metric's values.
        retention: Student over teacher.
        low, high: Its 95 % interval, see `benchmarks.significance.retention_interval`.
        mcnemar: Probability of so uneven a change of right answers by chance; of accuracy alone,
            for it says nothing of other metrics, and none for several students pooled.
    """

    task: str
    metric: str
    variant: str
    examples: int
    teacher: float
    student: float
    retention: float
    low: float
    high: float
    mcnemar: float | None

    def to_dict(self) -> dict[str, Any]:
        """As the report writes it."""
        return asdict(self)


def predict(
    run: Runner,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    *,
    max_length: int,
    batch_size: int = 32,
    label: str = "accuracy",
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Logits:
    """Logits of every example, in the data's order: `(examples, n_labels)`.

    Raises:
        DataError: A logit is not finite; the example is named.
    """
    parts = []
    rows = []
    batches = tokenise(dataset.texts, tokenizer, batch_size=batch_size, max_length=max_length)
    for batch in batches:
        parts.append(run(batch.inputs))
        rows.append(batch.rows)
        progress(label, sum(map(len, rows)), len(dataset))
    logits = np.empty((len(dataset), parts[0].shape[1]), np.float32)
    logits[np.concatenate(rows)] = np.concatenate(parts)
    broken = ~np.isfinite(logits).all(axis=1)
    if broken.any():
        raise DataError(
            f"logits must be finite, found NaN or Inf on {dataset.place}, example "
            f"{int(broken.argmax()) + 1}; export in float32"
        )
    return logits


def in_task_order(
    dataset: Dataset, label2id: Mapping[str, int], labels: Array, logits: Logits
) -> tuple[Array, Logits]:
    """Labels and logits as if the model ordered its outputs as the task does.

    F1 is of the task's second label, whichever output a model gives it.

    Args:
        dataset: Of the task.
        label2id: The model's.
        labels: As the model's output numbers, see `encode_labels`: `(examples,)`.
        logits: `(examples, n_labels)`.
    """
    order = task_order(dataset, label2id)
    if order is None or order == list(range(len(order))):
        return labels, logits
    places = np.argsort(order)
    return places[labels.astype(int)].astype(float), logits[:, order]


def doubt(dataset: Dataset, labels: Array, logits: Logits) -> str | None:
    """Why nothing should be judged by a model's answers: the commonest class alone does better.

    Returns:
        A sentence, with the order of outputs that would fit best; nothing where the model is
        better, and of regressions.
    """
    if dataset.regression or not len(labels):
        return None
    found, n_labels = predictions(logits), logits.shape[1]
    counts = np.bincount(labels.astype(int), minlength=n_labels)
    right, common = float((found == labels).mean()), counts.max() / len(labels)
    if right >= common:
        return None
    table = np.zeros((n_labels, n_labels))
    np.add.at(table, (found.astype(int), labels.astype(int)), 1)
    outputs, classes = linear_sum_assignment(-table)
    fitted = table[outputs, classes].sum() / len(labels)
    better = (
        f"; with its outputs taken for the classes {classes.tolist()} it would be right on "
        f"{fitted:.1%}: compare id2label in its config.json with the data"
        if fitted > common
        else ""
    )
    return (
        f"the teacher is right on {right:.1%} of {dataset.place}, and its most "
        f"frequent class alone on {common:.1%}{better}"
    )


def compare(
    dataset: Dataset,
    labels: Array,
    teacher: Logits,
    student: Logits,
    *,
    metrics: tuple[str, ...],
    variant: str,
) -> tuple[Accuracy, ...]:
    """Every metric of a student, beside the teacher's on the same examples."""
    return compare_seeds(dataset, labels, teacher, [student], metrics=metrics, variant=variant)


def compare_seeds(
    dataset: Dataset,
    labels: Array,
    teacher: Logits,
    students: Sequence[Logits],
    *,
    metrics: tuple[str, ...],
    variant: str,
) -> tuple[Accuracy, ...]:
    """Every metric of several students of one recipe, pooled; McNemar's test of one alone."""
    return tuple(
        _compare(
            dataset, labels, predictions(teacher), list(map(predictions, students)), metric, variant
        )
        for metric in metrics
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Predicted:
    """What every contender answered, example by example; what comparisons are made from.

    Attributes:
        labels: True ones, `(examples,)`.
        anchor: Logits of the contender that others are compared with, `(examples, n_labels)`.
        others: Logits by contender and variant.
    """

    labels: Array
    anchor: Logits
    others: Mapping[tuple[str, str], Logits]

    def save(self, path: Path) -> None:
        """Write one `.npz` file: `labels`, `anchor`, and `CONTENDER @ VARIANT` of the others."""
        others = {_AT.join(place): logits for place, logits in self.others.items()}
        with path.open("wb") as file:
            np.savez_compressed(file, labels=self.labels, anchor=self.anchor, **others)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Predicted:
        """Read what `save` wrote.

        Raises:
            DataError: It is damaged, or of an earlier version.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                names = [name for name in data.files if _AT in name]
                return cls(
                    labels=data["labels"],
                    anchor=data["anchor"],
                    others={_place(name): data[name] for name in names},
                )
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path} must hold predictions as this version writes them, found: {error}; "
                "measure again, or remove the file"
            ) from error


def disagreements(
    dataset: Dataset, labels: Array, teacher: Logits, student: Logits, most: int = 50
) -> list[dict[str, Any]]:
    """Examples that student and teacher answer differently, those with the largest change first.

    Args:
        dataset: With the texts.
        labels: True ones, `(examples,)`.
        teacher: Logits, `(examples, n_labels)`.
        student: Of the same examples.
        most: How many to list.

    Returns:
        One record an example: `example` (its line, from 1), `text`, `label`, `teacher`, `student`,
        and `change`: of the probability of the teacher's answer, or of the number in a regression.
    """
    before, after = predictions(teacher), predictions(student)
    if teacher.shape[1] == 1:
        changes, differ = np.abs(after - before), np.ones(len(labels), bool)
    else:
        rows, chosen = np.arange(len(labels)), before.astype(int)
        changes = softmax(teacher, 1)[rows, chosen] - softmax(student, 1)[rows, chosen]
        differ = before != after
    order = [i for i in np.argsort(-changes) if differ[i]][:most]
    return [
        {
            "example": int(i) + 1,
            "text": " ⏐ ".join(dataset.texts[i])[:_TEXT],
            "label": float(labels[i]),
            "teacher": float(before[i]),
            "student": float(after[i]),
            "change": float(changes[i]),
        }
        for i in order
    ]


def _place(name: str) -> tuple[str, str]:
    contender, _, variant = name.rpartition(_AT)
    return contender, variant


def _compare(
    dataset: Dataset,
    labels: Array,
    teacher: Array,
    students: Sequence[Array],
    metric: str,
    variant: str,
) -> Accuracy:
    before = METRICS[metric](labels, teacher)
    after = float(np.mean([METRICS[metric](labels, student) for student in students]))
    low, high = retention_interval(metric, labels, teacher, students)
    tested = len(students) == 1 and metric == "accuracy"
    return Accuracy(
        task=dataset.name,
        metric=metric,
        variant=variant,
        examples=len(dataset),
        teacher=before,
        student=after,
        retention=ratio(before, after),
        low=low,
        high=high,
        mcnemar=mcnemar(labels, teacher, students[0]) if tested else None,
    )
