"""Which layer of the teacher each layer of the student learns from. Numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from compress.errors import RecipeError

__all__ = ["LayerMap", "LayerMapName", "layer_pairs"]

LayerMapName = Literal["source", "uniform", "last", "nearest"]
LayerMap: TypeAlias = LayerMapName | Sequence[tuple[int, int]]
"""`source`: the one it came from, in a pruned student. `uniform`: ``g(l) = round(l · top / n)``.
`last`: only the last from the last. `nearest`: as it comes, batch by batch. Or pairs (student's,
teacher's), from 1."""

_TAUGHT = 4
"""Layers of the teacher that `nearest` places."""


def layer_pairs(
    layer_map: LayerMap,
    n_student: int,
    n_teacher: int,
    sources: Sequence[int] | None = None,
    top: int | None = None,
) -> tuple[tuple[int, int], ...]:
    """Pairs of a student's and a teacher's layer, counted from 1; 0 for a student's yet to find.

    Args:
        layer_map: How to pair them.
        n_student: Layers of the student.
        n_teacher: Number of the teacher's layers.
        sources: From 0, the teacher's layer that each of the student's came from.
        top: The teacher's layer that the student's last learns from under `uniform`
            (``L_top`` of Liu et al. 2021, section 3.2); its last by default.

    Raises:
        RecipeError: A pair names a layer that is not there, or `source` has no sources.
    """
    top = n_teacher if top is None else top
    if not 1 <= top <= n_teacher:
        raise RecipeError(
            f"the top layer must be from 1 to {n_teacher}, the teacher's layers, found {top}; "
            "correct it"
        )
    if layer_map == "source":
        if sources is None:
            raise RecipeError(
                "layer map 'source' goes with a student pruned from this teacher, found another "
                "one; use uniform or last"
            )
        return tuple((i, source + 1) for i, source in enumerate(sources, start=1))
    if layer_map == "uniform":
        uniform = ((i, round(i * top / n_student)) for i in range(1, n_student + 1))
        return tuple((i, aim) for i, aim in uniform if aim)
    if layer_map == "nearest":
        target_layers = {round(i * top / _TAUGHT) for i in range(1, _TAUGHT + 1)} - {0}
        return tuple((0, aim) for aim in sorted(target_layers))
    if layer_map == "last":
        return ((n_student, top),)
    pairs = tuple((int(a), int(b)) for a, b in layer_map)
    for here, there in pairs:
        if not (0 <= here <= n_student and 0 <= there <= n_teacher):
            raise RecipeError(
                f"a layer map must pair layers 0 (embeddings) to {n_student} of the student with 0 "
                f"to {n_teacher} of the teacher, found {[here, there]}; correct it"
            )
    return pairs
