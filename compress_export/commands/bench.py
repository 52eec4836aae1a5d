"""`bench`: latency of bundles, interleaved in one process, the first being the base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from benchmarks.environment import environment
from benchmarks.gate import at_least, overall
from benchmarks.latency import (
    Contender,
    Latency,
    Sampling,
    Workload,
    measure,
    speedup,
    workload_inputs,
)
from benchmarks.runtimes.onnxruntime import CPU, CUDA, OrtModel
from compress.errors import RecipeError
from compress_export.commands.run import STATUS
from compress_export.console import out, progress, table
from compress_export.loading import find_graph, read_config

PROVIDERS = {"cpu": CPU, "cuda": CUDA}


def run(
    bundles: list[Path],
    shapes: list[tuple[int, int]],
    variant: str | None,
    provider: str,
    rounds: int,
    seconds: float,
    least: float | None,
    *,
    as_json: bool,
) -> None:
    """Measure `bundles` under the workloads `shapes` and print percentiles and ratios."""
    if provider not in PROVIDERS:
        raise RecipeError(f"--provider must be cpu or cuda, found {provider!r}; choose one")
    for batch, sequence in shapes:
        if batch < 1 or sequence < 1:
            raise RecipeError(f"--batch and --sequence must be above 0, found {batch} × {sequence}")
    if least is not None and len(bundles) < 2:
        raise RecipeError("--speedup needs two bundles, found one; name the base first")
    graphs = [find_graph(bundle, variant) for bundle in bundles]
    workloads = [Workload(batch=b, sequence=s) for b, s in shapes]
    vocabulary = min(_vocabulary(graph.parent) for graph in graphs)
    contenders = [
        Contender(
            name=str(bundle),
            variant=graph.parent.name,
            provider=PROVIDERS[provider],
            run=OrtModel(graph, PROVIDERS[provider]),
        )
        for bundle, graph in zip(bundles, graphs, strict=True)
    ]
    with progress() as report:
        results = measure(
            contenders,
            workloads,
            {w: workload_inputs(w, vocabulary) for w in workloads},
            dict.fromkeys(workloads, Sampling(rounds=rounds, seconds=seconds)),
            report,
        )
    _finish(results, len(bundles), least, as_json)


def _finish(results: tuple[Latency, ...], n: int, least: float | None, as_json: bool) -> None:
    groups = [results[i : i + n] for i in range(0, len(results), n)]
    rows: list[list[str]] = []
    facts: list[dict[str, Any]] = []
    gates = []
    for group in groups:
        for entry in group:
            ratio, low, high = speedup(group[0], entry)
            facts.append(entry.to_dict() | {"speedup": ratio, "low": low, "high": high})
            rows.append(
                [f"{entry.workload.batch} × {entry.workload.sequence}", entry.contender]
                + [f"{entry.percentile_ms(p):.2f}" for p in (50, 90, 95, 99)]
                + [f"{entry.throughput_per_s:.0f}", f"{ratio:.2f}× ({low:.2f} to {high:.2f})"]
            )
        if least is not None:
            gates.append(at_least("speedup", least, *speedup(group[0], group[-1])))
    if as_json:
        promised = [gate.to_dict() for gate in gates]
        out.print_json(
            json.dumps({"latency": facts, "gates": promised, "environment": environment()})
        )
    else:
        header = ["workload", "bundle", "p50 ms", "p90", "p95", "p99", "seq/s", "speed-up"]
        table("latency, interleaved", header, rows)
    verdict = overall(gates)
    if gates and not as_json:
        out.print(f"gate speedup ≥ {least:g}: {verdict}")
    if STATUS[verdict]:
        raise typer.Exit(STATUS[verdict])


def _vocabulary(folder: Path) -> int:
    size = read_config(folder).get("vocab_size")
    if not isinstance(size, int):
        raise RecipeError(
            f"{folder}/config.json must hold vocab_size, found {size!r}; export the model again"
        )
    return size
