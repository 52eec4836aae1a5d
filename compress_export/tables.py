"""Latency tables: found in the cache, read from a file, or measured, and held against this machine.

The cache's key is what a latency depends on: hardware, runtime, the encoder's sizes, precision.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from benchmarks.environment import machine
from benchmarks.profile import Effort, measure_stacks
from compress.errors import TableError
from compress.files.folder import versions
from compress.model.batches import Progress, silent
from compress.model.binding import bind
from compress.model.task_head import stock_class
from compress.plan.latency_table import LatencyTable, table_geometry
from compress.plan.workload import Workload
from compress_export.stages import content_key
from export.layer_stacks import export_stacks, stack_sizes
from export.precision.variants import Variant

__all__ = ["TableSource", "cache_folder", "latency_tables", "runtime"]

TOLERATED = 4.0
"""A cached measurement that spreads over more than so many times what is asked for is made anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableSource:
    """Where tables come from.

    Attributes:
        file: A table to use as it is for the variant that it is of; for other variants, and left
            out, the cache or a measurement.
        force: Use `file` though it is of another machine or runtime.
        fresh: Measure again what is in the cache.
    """

    file: Path | None = None
    force: bool = False
    fresh: bool = False


def runtime(variant: Variant) -> dict[str, str]:
    """What runs a variant, as far as latency depends on it."""
    return {"onnxruntime": versions()["onnxruntime"], "provider": variant.provider}


def cache_folder() -> Path:
    """Where tables are kept: `$XDG_CACHE_HOME/compress-export`, or under `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "compress-export" / "latency"


def latency_tables(
    model: PreTrainedModel,
    names: tuple[str, ...],
    variants: Sequence[Variant],
    workloads: Sequence[Workload],
    source: TableSource = TableSource(),
    effort: Effort = Effort(),  # noqa: B008 - frozen
    progress: Progress = silent,
) -> dict[str, LatencyTable]:
    """One table a variant, holding every workload; what is missing or loose is measured and cached.

    Args:
        model: The unpruned model.
        names: Of the graph's inputs.
        variants: Which precisions and providers.
        workloads: That the tables must hold.
        source: Where to take them from.
        effort: Of a measurement.
        progress: Told how far each step is.

    Raises:
        TableError: A given file is of another model, machine or runtime, or lacks a workload.
    """
    tables: dict[str, LatencyTable] = {v.name: _cached(model, v) for v in variants}
    given = None if source.file is None else _given(source, source.file, model, variants)
    if given is not None:
        tables |= {given.variant: given}
        for workload in workloads:
            given.point(workload)
    wanted: dict[tuple[str, ...], list[Workload]] = {}
    for workload in workloads:
        lacking = tuple(
            name
            for name, table in tables.items()
            if table is not given and (source.fresh or not _holds(table, workload, effort))
        )
        wanted.setdefault(lacking, []).append(workload)
    for lacking, unmeasured in wanted.items():
        needed = [v for v in variants if v.name in lacking]
        for table in _measured(model, names, needed, unmeasured, effort, progress):
            whole = _merged(tables[table.variant], table)
            tables[table.variant] = whole
            whole.save(_path(whole.geometry, whole.variant, whole.machine, whole.runtime))
    return tables


def _measured(
    model: PreTrainedModel,
    names: tuple[str, ...],
    variants: Sequence[Variant],
    workloads: Sequence[Workload],
    effort: Effort,
    progress: Progress,
) -> list[LatencyTable]:
    shape = bind(model).shape
    tables: list[LatencyTable] = []
    if not variants:
        return tables
    with tempfile.TemporaryDirectory(prefix="compress-export-") as folder:
        stacks = stack_sizes(shape)
        graphs = export_stacks(model, stacks, names, variants, Path(folder), progress)
        for variant in variants:
            points = measure_stacks(
                graphs[variant.name],
                shape.depth,
                workloads,
                variant.provider,
                int(model.config.vocab_size),
                effort,
                _named(progress, variant.name),
                shape.n_layers // shape.groups if shape.groups else 1,
            )
            tables.append(replace(_empty(model, variant), points=points))
    return tables


def _named(progress: Progress, name: str) -> Callable[[str, int, int], None]:
    return lambda label, done, total: progress(f"{label} ({name})", done, total)


def _empty(model: PreTrainedModel, variant: Variant) -> LatencyTable:
    return LatencyTable(
        variant=variant.name,
        machine=machine(),
        runtime=runtime(variant),
        geometry=table_geometry(
            bind(model).shape, stock_class(model).__name__, int(model.config.vocab_size)
        ),
        points=(),
    )


def _given(
    source: TableSource, file: Path, model: PreTrainedModel, variants: Sequence[Variant]
) -> LatencyTable:
    table = LatencyTable.load(file)
    for variant in variants:
        if table.variant == variant.name:
            _check(table, file, _empty(model, variant), force=source.force)
            return table
    raise TableError(
        f"the latency table {file} must be of one of {', '.join(v.name for v in variants)}, found "
        f"{table.variant!r}; measure one with `compress-export profile`"
    )


def _check(table: LatencyTable, file: Path, here: LatencyTable, *, force: bool) -> None:
    try:
        table.check_model(here.geometry)
        if not force:
            table.check_place(here.machine, here.runtime)
    except TableError as error:
        raise TableError(f"{file}: {error}") from error


def _cached(model: PreTrainedModel, variant: Variant) -> LatencyTable:
    empty = _empty(model, variant)
    path = _path(empty.geometry, empty.variant, empty.machine, empty.runtime)
    if not path.is_file():
        return empty
    try:
        return LatencyTable.load(path)
    except TableError:  # an older schema, or a file that somebody edited: measure again
        return empty


def _holds(table: LatencyTable, workload: Workload, effort: Effort) -> bool:
    most = TOLERATED * effort.precision
    return any(p.workload == workload and p.spread <= most for p in table.points)


def _merged(old: LatencyTable, new: LatencyTable) -> LatencyTable:
    """All points, the new in the place of old ones of the same workload."""
    measured = {point.workload for point in new.points}
    kept = [point for point in old.points if point.workload not in measured]
    return replace(new, points=tuple(sorted([*kept, *new.points], key=lambda p: p.workload)))


def _path(
    geometry: Mapping[str, Any], variant: str, place: Mapping[str, Any], run: Mapping[str, str]
) -> Path:
    key = content_key({"geometry": geometry, "variant": variant, "where": place, "how": run})
    return cache_folder() / f"{key[:24]}.json"
