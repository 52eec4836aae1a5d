"""Rows by what they have in common: seeds of one point, points of one student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.statistics import t_half_width

if TYPE_CHECKING:
    from compress_export.studies.grid import Row

__all__ = ["grouped", "spread"]


def grouped(rows: Sequence[Row], *keys: str) -> list[tuple[Row, list[Row]]]:
    """What rows have in common, and those that have it, in the order of the first of each.

    Example:
        >>> grouped([{"a": 1, "b": 5}, {"a": 2, "b": 6}, {"a": 1, "b": 7}], "a")[0]
        ({'a': 1}, [{'a': 1, 'b': 5}, {'a': 1, 'b': 7}])
    """
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [(dict(zip(keys, place, strict=True)), own) for place, own in found.items()]


def spread(values: Sequence[float]) -> float | None:
    """Half-width of the mean's 95 % interval over seeds; none where there is one."""
    return t_half_width(np.array(values)) if len(values) > 1 else None
