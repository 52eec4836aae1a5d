"""How a data set's labels become a model's outputs: one reading for the whole set, or a refusal.

Models order their labels differently, so names decide where there are any. Knows names and ids.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.dataset import Dataset
from compress.errors import DataError

__all__ = ["class_names", "encode_labels", "is_unnamed", "normalised", "task_order"]

_TRUTHS = ("false", "true")
_MANY = 20
"""Different fractional numbers from which a label column is taken for scores."""


def encode_labels(dataset: Dataset, label2id: Mapping[str, int]) -> NDArray[np.float64]:
    """The labels as the model's output numbers, or as numbers for a regression: `(examples,)`.

    The whole set is read in one way, the first that fits all of it: as names of the model's labels;
    as names of the task's labels, or numbers in their order; as output numbers. A task's names are
    the model's, or, where the model has only transformers' own `LABEL_0`, in the model's order.

    Args:
        dataset: What to encode.
        label2id: The model's; one entry means a regression.

    Raises:
        DataError: The task does not fit the model, a label is outside the map, or the labels could
            be read in two ways.
    """
    _check_kind(dataset, label2id)
    if dataset.regression:
        return np.array([_number(dataset, i, label) for i, label in enumerate(dataset.labels)])
    written = [label.strip() for label in dataset.labels]
    known = None if dataset.label_names else _as_names(set(written), label2id)
    if known is None:
        written = normalised(dataset.labels)
        known = _reading(dataset, written, label2id)
    for index, label in enumerate(written):
        if label not in known:
            mixed = len({_is_number(each) for each in written}) == 2
            why = " (the column mixes names and numbers)" if mixed else ""
            raise DataError(
                f"{dataset.place}, example {index + 1}: label "
                f"{dataset.labels[index]!r} is not one of {_shown(known)}{why}; correct the row, "
                "or the label2id in the model's config.json"
            )
    return np.array([known[label] for label in written], float)


def task_order(dataset: Dataset, label2id: Mapping[str, int]) -> list[int] | None:
    """The model's outputs in the order of the task's labels; `None` where the task names none."""
    if dataset.regression or not dataset.label_names:
        return None
    return list(_by_task(dataset.label_names, label2id, dataset.name).values())


def class_names(labels: Sequence[str], column: str = "label") -> list[str]:
    """The classes of a label column in a sensible order: numbers as numbers, names by alphabet.

    Raises:
        DataError: There is one class alone, the column holds scores, or names differ in case alone.
    """
    empty = next((i for i, label in enumerate(labels) if not label.strip()), None)
    if empty is not None:
        raise DataError(f"column {column!r} is empty in example {empty + 1}; fill it in")
    names = sorted(set(normalised(labels)), key=lambda n: (not _is_number(n), _as_number(n), n))
    if len(names) < 2:
        raise DataError(
            f"column {column!r} holds one class alone, {names}; a classifier needs two or more"
        )
    fractions = [n for n in names if _is_number(n) and not n.lstrip("-").isdigit()]
    if len(fractions) > _MANY or (fractions and len(fractions) == len(names) > 2):
        raise DataError(
            f"column {column!r} holds {len(names)} different numbers, such as {fractions[0]}: "
            "scores and no classes; set task.regression (--regression)"
        )
    folded = [name.casefold() for name in names]
    twice = next((n for n in names if folded.count(n.casefold()) > 1), None)
    if twice is not None:
        same = [name for name in names if name.casefold() == twice.casefold()]
        raise DataError(f"column {column!r} spells one class in several ways, {same}; choose one")
    return names


def is_unnamed(label2id: Mapping[str, int]) -> bool:
    """Whether a model's labels have only the names that transformers makes up."""
    return all(name == f"LABEL_{i}" for name, i in label2id.items())


def normalised(labels: Sequence[str]) -> list[str]:
    """Labels without white space around them; whole numbers written in one way (`1.0` as `1`).

    `True` and `False` become 1 and 0 where the column holds nothing else but numbers.
    """
    found = [label.strip() for label in labels]
    kinds = {label.casefold() for label in found}
    if all(kind in _TRUTHS or _is_number(kind) for kind in kinds):
        truths = {name: str(i) for i, name in enumerate(_TRUTHS)}
        found = [truths.get(label.casefold(), label) for label in found]
    return [re.sub(r"\.0*$", "", label) if _is_number(label) else label for label in found]


def _reading(
    dataset: Dataset, written: Sequence[str], label2id: Mapping[str, int]
) -> dict[str, int]:
    """Every spelling that occurs, with the model's output, by one reading of the whole set."""
    present = set(written)
    listed = next((label for label in present if label.startswith(("[", "{"))), None)
    if listed is not None:
        raise DataError(
            f"{dataset.place}: label {listed!r} lists several labels, and one class "
            "for each text is supported; choose one label a row"
        )
    if dataset.label_names:
        return _of_task(dataset, present, label2id)
    numbers = {str(i): i for i in range(len(label2id))}
    if any(_is_number(name) for name in label2id):
        return dict(label2id)  # places would be a second reading
    if present <= numbers.keys():
        _check_no_other_numbers(dataset, label2id)
        return numbers
    if is_unnamed(label2id):
        named = sorted(present - numbers.keys())[:5]
        raise DataError(
            f"{dataset.place}: the labels are names ({named}), and the model does "
            "not name its own; set id2label and label2id in its config.json"
        )
    outputs = {label: _named(label, label2id) for label in present}
    return {name: i for name, i in outputs.items() if i is not None} or dict(label2id)


def _check_no_other_numbers(dataset: Dataset, label2id: Mapping[str, int]) -> None:
    """Refuse numbers for a model whose names count otherwise, such as `1 star` for output 0."""
    counted = {i: re.findall(r"\d+", name) for name, i in label2id.items()}
    if all(len(found) == 1 for found in counted.values()) and any(
        int(found[0]) != i for i, found in counted.items()
    ):
        raise DataError(
            f"{dataset.place}: labels are numbers, and the model's names count "
            f"otherwise than its outputs ({_shown(label2id)}); write the model's names"
        )


def _of_task(dataset: Dataset, present: set[str], label2id: Mapping[str, int]) -> dict[str, int]:
    """A named task's labels, as names or as numbers in the task's order."""
    outputs = _by_task(dataset.label_names, label2id, dataset.name)
    by_name = {name.casefold(): output for name, output in outputs.items()}
    if all(label.casefold() in by_name for label in present):
        return {label: by_name[label.casefold()] for label in present}
    return {str(i): output for i, output in enumerate(outputs.values())}


def _by_task(names: Sequence[str], label2id: Mapping[str, int], task: str) -> dict[str, int]:
    """The model's output of each of a task's labels, in the task's order."""
    if len(names) != len(label2id):
        raise DataError(
            f"task {task!r} has the {len(names)} labels {list(names)}, found a model with "
            f"{len(label2id)}: {sorted(label2id)}; choose the model's own task"
        )
    known = _as_names(set(names), label2id)
    if known is not None:
        return {name: known[name] for name in names}
    if is_unnamed(label2id) or all(name == str(i) for name, i in label2id.items()):
        return {name: i for i, name in enumerate(names)}
    raise DataError(
        f"task {task!r} has the labels {list(names)}, found a model with {sorted(label2id)}; "
        "rename the labels in its config.json (id2label, label2id), each after what it means"
    )


def _as_names(present: set[str], label2id: Mapping[str, int]) -> dict[str, int] | None:
    """All labels as names of the model's, exactly or without regard to case; else nothing."""
    found = {label: _named(label, label2id) for label in present}
    known = {label: output for label, output in found.items() if output is not None}
    return known if len(known) == len(present) else None


def _named(label: str, label2id: Mapping[str, int]) -> int | None:
    """The output of that name; case counts where it keeps names apart."""
    if label in label2id:
        return label2id[label]
    folded = {name.strip().casefold(): i for name, i in label2id.items()}
    return folded.get(label.casefold()) if len(folded) == len(label2id) else None


def _check_kind(dataset: Dataset, label2id: Mapping[str, int]) -> None:
    if dataset.regression != (len(label2id) == 1):
        wanted = "one output (a regression)" if dataset.regression else "a class per label"
        raise DataError(
            f"task {dataset.name!r} needs a model with {wanted}, found {len(label2id)} "
            f"label{'s' * (len(label2id) != 1)} {sorted(label2id)}; "
            "choose the model's own task"
        )


def _shown(known: Mapping[str, int]) -> list[str]:
    return sorted(known)[:12]


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d*)?", text) is not None


def _as_number(text: str) -> float:
    return float(text) if _is_number(text) else 0.0


def _number(dataset: Dataset, index: int, label: str) -> float:
    try:
        value = float(label)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(
            f"{dataset.place}, example {index + 1}: label must be a finite number, "
            f"found {label!r}; correct the file"
        )
    return value
