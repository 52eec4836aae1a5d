"""`bench`: latency of contenders, interleaved, the first being the base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from benchmarks.itself import Itself
from benchmarks.rounds import Sampling
from compress.errors import RecipeError
from compress.files.folder import check_target, writing
from compress.plan.workload import Workload
from compress_export.benching import Bench, Judged, against_itself, run_bench
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.contenders import parse_entry
from compress_export.cores import pin
from compress_export.exits import STATUS


def run(
    names: list[str],
    shapes: list[tuple[int, int]],
    sampling: Sampling,
    *,
    variant: str | None,
    device: str,
    copies: bool,
    isolated: bool,
    allow_cpu_nodes: bool,
    openings: int,
    threads: int | None,
    speedup: float | None,
    judged: tuple[str | dict[str, Any], Path | None, int] | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure contenders under the workloads `shapes`; print, write, exit by the gate."""
    if speedup is not None and len(names) < 2:
        raise RecipeError("--speedup needs two contenders, found one; name the base first")
    if out is not None:
        check_target(out, "report")
    pin(threads)
    entries = [parse_entry(name, variant, device, copies=copies) for name in names]
    bench = Bench(
        entries=tuple(entries),
        workloads=_workloads(shapes),
        sampling=sampling,
        isolated=isolated,
        allow_cpu_nodes=allow_cpu_nodes,
        openings=openings,
        judged=None if judged is None else Judged.by(*judged),
    )
    with progress() as report:
        benched = run_bench(bench, speedup, report)
    found = benched.report
    if out is not None:
        with writing(out, "report") as folder:
            benched.write(folder)
    if as_json:
        console.print_json(json.dumps(found))
    else:
        _print(found)
        if out is not None:
            console.print(f"report: {out / 'report.html'}", soft_wrap=True)
    if STATUS[found["verdict"]]:
        raise typer.Exit(STATUS[found["verdict"]])


def run_itself(
    names: list[str],
    shapes: list[tuple[int, int]],
    sampling: Sampling,
    *,
    runs: int,
    gate: float,
    openings: int,
    isolated: bool,
    variant: str | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Compare one contender with itself and print what that says of this machine."""
    if len(names) != 1:
        raise RecipeError(f"--aa compares one contender with itself, found {len(names)}; name one")
    if len(shapes) != 1:
        raise RecipeError(
            f"--aa measures one workload, found {len(shapes)}; give one --batch and one --sequence"
        )
    pin(threads)
    bench = Bench(
        entries=(parse_entry(names[0], variant, device),),
        workloads=_workloads(shapes),
        sampling=sampling,
        isolated=isolated,
        openings=openings,
    )
    with progress() as report:
        found = against_itself(bench, runs, gate, report)
    if as_json:
        console.print_json(json.dumps(found.to_dict()))
        return
    _print_itself(found, names[0], bench.workloads[0])


def _workloads(shapes: list[tuple[int, int]]) -> tuple[Workload, ...]:
    return tuple(dict.fromkeys(Workload(batch=b, sequence=s) for b, s in shapes))


def _print(found: dict[str, Any]) -> None:
    ratios = {
        (r["contender"], r["variant"], r["batch"], r["sequence"]): r for r in found["speedups"]
    }
    rows = []
    for row in found["latency"]:
        ratio = ratios.get((row["contender"], row["variant"], row["batch"], row["sequence"]))
        rows.append(
            [f"{row['batch']} × {row['sequence']}", f"{row['contender']} {row['variant']}"]
            + [_ms(row[name]) for name in ("p50_ms", "p90_ms", "p95_ms", "p99_ms")]
            + [f"{row['throughput_per_s']:.0f}", _limit(row), _ratio(ratio), str(row["samples"])]
        )
    header = ["workload", "contender", "p50 ms", "p90", "p95", "p99", "seq/s", "of limit"]
    table("latency, interleaved", [*header, "speed-up", "rounds"], rows, left=(0, 1))
    if found["accuracy"]:
        kept = [
            [r["contender"], r["variant"], r["metric"], f"{r['student']:.4f}",
             f"{r['retention']:.1%}", f"{r['low']:.1%} to {r['high']:.1%}"]
            for r in found["accuracy"]
        ]  # fmt: skip
        header = ["contender", "variant", "metric", "value", "kept", "95 % interval"]
        table(f"accuracy beside {found['anchor']}", header, kept, left=(0, 1, 2))
    for line in found["remarks"]:
        console.print(line, soft_wrap=True)
    for gate in found["gates"]:
        console.print(f"gate {gate['name']} ≥ {gate['threshold']:g}: {gate['verdict']}")


def _print_itself(found: Itself, name: str, workload: Workload) -> None:
    rows = [
        ["runs, both sides opened anew", str(found.runs)],
        [f"false alarms at a gate of {found.gate:.1%}", f"{found.alarms} of {found.runs}"],
        ["the same, 200 runs simulated from these rounds", f"{found.simulated_alarms:.1%}"],
        ["intervals that exclude equality (5 % is honest)", f"{found.excluding:.0%}"],
        ["largest difference that a run showed", f"{found.largest:.1%}"],
        ["half-width of the typical 95 % interval", f"{found.resolution:.1%}"],
    ]
    table(f"{name} against itself, {workload} tokens", ["", ""], rows)
    if found.resolution > found.gate:
        console.print(
            f"this machine does not resolve {found.gate:.1%} so: give more --seconds, or a gate "
            f"above {found.resolution:.1%}; meanwhile such gates are inconclusive"
        )
        return
    console.print(f"at this gate, slowdowns beyond {found.gate + found.resolution:.1%} are found")


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _limit(row: dict[str, Any]) -> str:
    """Share of what the machine could do at best, where that is known."""
    return "–" if row["floor_ms"] is None else f"{row['floor_ms'] / row['p50_ms']:.0%}"


def _ratio(row: dict[str, Any] | None) -> str:
    return "1" if row is None else f"{row['ratio']:.2f}× ({row['low']:.2f} to {row['high']:.2f})"
