"""From command-line options to a recipe as plain data. Knows names alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

__all__ = ["recipe_of"]


def recipe_of(
    model: str,
    task: str | None,
    texts: Path | None,
    data: Path | None,
    *,
    target: dict[str, Any],
    prune: dict[str, Any],
    max_length: int,
    seed: int,
) -> dict[str, Any]:
    """A recipe from options; those left out (`None`) keep the recipe's defaults."""
    if (task is None) == (texts is None):
        raise typer.BadParameter("give --task NAME or --texts FILE, one of the two")
    if isinstance(prune.get("units"), str):
        prune = prune | {"units": [unit.strip() for unit in prune["units"].split(",")]}
    return {
        "model": model,
        "task": {"texts": texts} if texts else task,
        "data": data,
        "target": _given(target),
        "prune": _given(prune),
        "benchmark": {"max_length": max_length, "sequences": [target["sequence"]]},
        "seed": seed,
    }


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
