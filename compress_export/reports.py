"""Reports that were written before: read, checked, and set side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import Predicted
from benchmarks.report.build import SCHEMA, complete
from benchmarks.significance import kept_change
from benchmarks.tasks import predictions
from compress.errors import DataError

__all__ = ["PREDICTIONS", "kept_changes", "read_recipe", "read_report"]

Change = tuple[float, float, float]
Place = tuple[str, str, str]

PREDICTIONS = "predictions.npz"


def read_report(path: Path) -> dict[str, Any]:
    """A report by its file, or by the folder that holds it.

    Raises:
        DataError: There is none, or it is not one of ours.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file} must be a readable report.json, found: {error}; name another, or measure again"
        ) from error
    if not isinstance(found, dict) or "verdict" not in found or "environment" not in found:
        raise DataError(f"{file} must be a report of compress-export, found other JSON; name one")
    if found.get("schema") != SCHEMA:
        raise DataError(
            f"{file} must be of schema {SCHEMA}, found {found.get('schema')!r}; write it anew with "
            "this version"
        )
    try:
        return complete(found)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{file} must be a whole report of compress-export, found {error!r:.80}; measure again"
        ) from error


def read_recipe(path: Path) -> str | None:
    """The recipe beside a report, as the user wrote it."""
    file = (path if path.is_dir() else path.parent) / "recipe.yaml"
    return file.read_text(encoding="utf-8") if file.is_file() else None


def kept_changes(path: Path, baseline: Path, report: Mapping[str, Any]) -> dict[Place, Change]:
    """How retention changed by contender, variant and metric, example by example.

    Empty where predictions are not beside both reports.

    Raises:
        DataError: They are of other examples.
    """
    now, then = _predictions(path), _predictions(baseline)
    if now is None or then is None:
        return {}
    if not np.array_equal(now.labels, then.labels):
        raise DataError(
            f"{path} and {baseline} must be measured on the same examples, found "
            f"{len(now.labels)} and {len(then.labels)} of other labels; measure the baseline again"
        )
    return {
        (*place, row["metric"]): _change(row["metric"], now, then, place)
        for row in report["accuracy"]
        for place in [(row["contender"], row["variant"])]
        if place in now.others and place in then.others
    }


def _change(metric: str, now: Predicted, then: Predicted, place: tuple[str, str]) -> Change:
    before, after = then.others[place], now.others[place]
    if np.array_equal(before, after):  # to the last bit: the same model
        return 0.0, 0.0, 0.0
    return kept_change(
        metric, now.labels, predictions(now.anchor), predictions(before), predictions(after)
    )


def _predictions(path: Path) -> Predicted | None:
    file = (path if path.is_dir() else path.parent) / PREDICTIONS
    return Predicted.load(file) if file.is_file() else None
