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
from compress.batches import Progress, silent
from compress.binding import bind
from compress.errors import TableError
from compress.folder import versions
from compress.latency_table import LatencyTable, table_geometry
from compress.workload import Workload
from compress_export.stages import content_key
from export.precision import Variant
from export.stacks import export_stacks, stack_sizes

__all__ = ["TableSource", "cache_folder", "latency_tables", "runtime"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TableSource:
    """Where tables come from.

    Attributes:
        file: A table to use as it is; left out, the cache or a measurement.
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
    """One table a variant, holding every workload; what is missing is measured and cached.

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
    if source.file is not None:
        return {v.name: _given(source, source.file, model, v, workloads) for v in variants}
    tables: dict[str, LatencyTable] = {
        v.name: _cached(model, v, fresh=source.fresh) for v in variants
    }
    missing = [
        v for v in variants if any(not _holds(tables[v.name], workload) for workload in workloads)
    ]
    if missing:
        for table in _measured(model, names, missing, workloads, effort, progress):
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
    tables = []
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
        geometry=table_geometry(bind(model).shape),
        points=(),
    )


def _given(
    source: TableSource,
    file: Path,
    model: PreTrainedModel,
    variant: Variant,
    workloads: Sequence[Workload],
) -> LatencyTable:
    table = LatencyTable.load(file)
    if table.variant != variant.name:
        raise TableError(
            f"the latency table {file} is of the variant {table.variant!r}, found "
            f"{variant.name!r} asked for; measure one with `compress-export profile`"
        )
    here = _empty(model, variant)
    table.check_model(here.geometry)
    if not source.force:
        table.check_place(here.machine, here.runtime)
    for workload in workloads:
        table.point(workload)
    return table


def _cached(model: PreTrainedModel, variant: Variant, *, fresh: bool) -> LatencyTable:
    empty = _empty(model, variant)
    path = _path(empty.geometry, empty.variant, empty.machine, empty.runtime)
    if fresh or not path.is_file():
        return empty
    try:
        return LatencyTable.load(path)
    except TableError:  # an older schema, or a file that somebody edited: measure again
        return empty


def _holds(table: LatencyTable, workload: Workload) -> bool:
    return any(point.workload == workload for point in table.points)


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
