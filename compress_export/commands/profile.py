"""`profile`: measure what heads and neurons cost on this machine, and say where it is flat."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.profile import Effort
from benchmarks.report.curves import table_figure
from benchmarks.runtimes.onnxruntime import CUDA, cuda_available
from compress.checkpoint.checkpoint import load
from compress.errors import DataError, RecipeError
from compress.plan.latency_table import LatencyCurve, LatencyTable
from compress.plan.workload import Workload
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.loading import check_length, load_tokenizer
from compress_export.tables import TableSource, latency_tables
from export.graph.inputs import input_names
from export.precision.variants import variant

LOOSE = 0.04


def run(
    model: str,
    workloads: list[tuple[int, int]],
    variant_name: str,
    out: Path | None,
    picture: Path | None,
    effort: Effort,
    *,
    fresh: bool,
    as_json: bool,
) -> None:
    """Measure (or take from the cache) a latency table; print, write and draw it."""
    if picture is not None and picture.suffix != ".svg":
        raise RecipeError(f"--picture must end in .svg, found {picture}; rename it")
    teacher, tokenizer = load(model), load_tokenizer(model)
    names = input_names(teacher, tokenizer.model_input_names)
    wanted = sorted({Workload(batch=b, sequence=s) for b, s in workloads})
    check_length(teacher, "--sequence", max(w.sequence for w in wanted))
    chosen = variant(variant_name)
    if chosen.provider == CUDA and not cuda_available():
        raise DataError(
            f"--variant {chosen.name} needs a CUDA device, found none that ONNX Runtime can use; "
            "run `compress-export doctor`, or choose a cpu variant"
        )
    with progress() as report:
        tables = latency_tables(
            teacher, names, [chosen], wanted, TableSource(fresh=fresh), effort, report
        )
    found = tables[chosen.name]
    if out is not None:
        found.save(out)
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_text(table_figure(found), encoding="utf-8")
    if as_json:
        console.print_json(found.to_json())
        return
    for workload in wanted:
        _print(found, workload)
    for name, path in (("table", out), ("picture", picture)):
        if path is not None:
            console.print(f"{name}: {path}", soft_wrap=True)


def _print(found: LatencyTable, workload: Workload) -> None:
    point = found.point(workload)
    rows = [
        [unit, str(size), f"{ms:.3f}"]
        for unit, curve in (("heads", point.attention), ("neurons", point.ffn))
        for size, ms in zip(curve.sizes, curve.milliseconds, strict=True)
    ]
    console.print(
        f"{found.variant} at {workload} tokens: unpruned {point.dense_ms:.2f} ms, "
        f"{point.base_ms:.2f} of them outside the layers, ± {point.spread:.1%}",
        soft_wrap=True,
    )
    table("", ["unit", "kept in a layer", "ms per layer"], rows)
    if point.spread > LOOSE:
        console.print(
            f"measured within {point.spread:.1%}, too loosely to tell a shape: run it again with "
            "--fresh when the machine is idle",
            soft_wrap=True,
        )
        return
    for unit, curve in (("heads", point.attention), ("neurons", point.ffn)):
        console.print(describe(unit, curve), soft_wrap=True)


def describe(unit: str, curve: LatencyCurve) -> str:
    """What the first units cost, where the curve is flat and where it steps, in one sentence."""
    if len(curve.sizes) < 3:
        return f"{unit}: too few sizes to tell a shape"
    rising = curve.at(np.array(curve.sizes, float))
    first = rising[1] - rising[0]
    most = (rising[-1] - rising[1]) / (curve.sizes[-1] - curve.sizes[1])
    flat = [f"{s.low} to {s.high}" for s in curve.spans if s.kind == "flat"]
    steps = [
        f"{s.low} to {s.high} (+{s.milliseconds:.3f} ms)" for s in curve.spans if s.kind == "step"
    ]
    flat_part = f"flat, so that fewer are no faster: {', '.join(flat)}" if flat else "nowhere flat"
    step_part = f"a step: {', '.join(steps)}" if steps else "no step"
    as_much = f", as much as {first / most:.0f} more" if most > 0 else ""
    named = "one costs" if curve.sizes[1] == 1 else f"{curve.sizes[1]} cost"
    return f"{unit}: the first {named} {first:.3f} ms{as_much}; {flat_part}; {step_part}"
