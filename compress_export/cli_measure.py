"""The commands that measure, judge and show: arguments in, one call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress_export import options as opt

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (evaluate, bench, load, check, report, history):
        app.command()(command)


def evaluate(
    bundles: Annotated[
        list[Path],
        typer.Argument(
            help="Bundle, variant folder or .onnx file; several, of other seeds, are pooled."
        ),
    ],
    task: opt.Task,
    data: opt.Data = None,
    against: Annotated[
        Path | None, typer.Option(help="Bundle of the teacher, to tell what is kept.")
    ] = None,
    variant: opt.Variant = None,
    retention: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Gate: least share of the teacher's first metric."),
    ] = None,
    max_length: opt.MaxLength = 128,
    json: opt.Json = False,
) -> None:
    """Measure a bundle's accuracy through ONNX Runtime."""
    from compress_export.commands.evaluate import run

    run(bundles, opt.task_of(task), data, against, variant, retention, max_length, as_json=json)


def bench(
    contenders: opt.Contenders,
    batch: opt.Batches = None,
    sequence: opt.Sequences = None,
    variant: opt.Variant = None,
    device: opt.Device = "cpu",
    precision: opt.Spread = "2%",
    rounds: opt.Rounds = 400,
    seconds: Annotated[float, typer.Option(min=0.0, help="Per workload, at most.")] = 8.0,
    openings: opt.Openings = 4,
    threads: opt.Threads = None,
    isolate: opt.Isolate = False,
    copies: Annotated[
        bool, typer.Option(help="Count copies between host and device, of all contenders.")
    ] = True,
    allow_cpu_nodes: Annotated[
        bool, typer.Option("--allow-cpu-nodes", help="Measure sessions that CUDA runs in part.")
    ] = False,
    speedup: Annotated[
        float | None,
        typer.Option(min=0.0, help="Gate: least speed-up of the last over the first."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Measure accuracy too: a GLUE task, or a YAML file.")
    ] = None,
    data: opt.Data = None,
    max_length: opt.MaxLength = 128,
    aa: Annotated[
        bool, typer.Option("--aa", help="Compare one contender with itself: false alarms here.")
    ] = False,
    runs: opt.Runs = None,
    gate: opt.AlarmGate = None,
    out: opt.ReportFolder = None,
    json: opt.Json = False,
) -> None:
    """Measure latency of contenders, interleaved; with --task what they keep, too."""
    from benchmarks.rounds import Sampling
    from compress_export.commands import bench as command

    shapes = [(b, s) for b in batch or ([8] if aa else [1, 8]) for s in sequence or [64]]
    sampling = Sampling(
        precision=opt.share_of(precision, "--precision"), rounds=rounds, seconds=seconds
    )
    if aa:
        opt.refuse_with("--aa", {"--out": out, "--task": task, "--speedup": speedup})
        command.run_itself(
            contenders, shapes, sampling,
            runs=runs or 20, gate=opt.share_of(gate or "5%", "--gate"),
            openings=openings, isolated=isolate, variant=variant, device=device, threads=threads,
            as_json=json,
        )  # fmt: skip
        return
    opt.refuse_without("--aa", {"--runs": runs, "--gate": gate})
    command.run(
        contenders, shapes, sampling, variant=variant, device=device, copies=copies,
        isolated=isolate, allow_cpu_nodes=allow_cpu_nodes, openings=openings, threads=threads,
        speedup=speedup,
        judged=None if task is None else (opt.task_of(task), data, max_length),
        out=out, as_json=json,
    )  # fmt: skip


def load(
    bundle: Annotated[str, typer.Argument(help="[RUNTIME:]PATH[@VARIANT], as for `bench`.")],
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="single-stream, offline or server; repeat. Left out: all three."),
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Text file whose lengths are used; or give --task.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Task whose validation texts are used.")] = None,
    data: opt.Data = None,
    bound: Annotated[float, typer.Option(help="server: p99 latency allowed, ms.")] = 100.0,
    batch: Annotated[int, typer.Option(min=1, help="offline: sequences at a time.")] = 32,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each run, at least.")] = 10.0,
    device: opt.Device = "cpu",
    threads: opt.Threads = None,
    max_length: opt.MaxLength = 128,
    out: opt.ReportFolder = None,
    json: opt.Json = False,
) -> None:
    """Measure under load, by MLPerf's scenarios; needs the extra `loadgen`."""
    from compress_export.commands.load import run

    run(
        bundle, scenario or ["single-stream", "offline", "server"], texts,
        None if task is None else (opt.task_of(task), data, max_length),
        bound_ms=bound, batch=batch, seconds=seconds, device=device, threads=threads,
        max_length=max_length, out=out, as_json=json,
    )  # fmt: skip


def check(
    report: opt.ReportFile,
    baseline: Annotated[
        Path | None, typer.Option(help="An earlier report.json to compare with.")
    ] = None,
    pinned: Annotated[
        Path | None,
        typer.Option(help="A report that stays, where --baseline moves on with every change."),
    ] = None,
    first: Annotated[
        bool, typer.Option("--first", help="A baseline that is not there yet is no mistake.")
    ] = False,
    clock: Annotated[
        bool, typer.Option("--clock", help="Compare milliseconds: same machine only.")
    ] = False,
    latency: opt.Limit = None,
    throughput: opt.Limit = None,
    memory: opt.Limit = None,
    size: opt.Limit = None,
    retention: opt.Limit = None,
    fused: Annotated[bool, typer.Option(help="Fused nodes may not become fewer.")] = True,
    parity: Annotated[bool, typer.Option(help="Differences from torch stay in tolerance.")] = True,
    junit: Annotated[Path | None, typer.Option(help="Write the gates as JUnit XML.")] = None,
    summary: Annotated[
        Path | None, typer.Option(help="Append Markdown to it, such as $GITHUB_STEP_SUMMARY.")
    ] = None,
    json: opt.Json = False,
) -> None:
    """Judge a report: its own gates, and what changed since an earlier one."""
    from compress_export.commands.check import run

    given = {"latency": latency, "throughput": throughput, "memory": memory, "size": size,
             "retention": retention}  # fmt: skip
    limits = {k: opt.share_of(v, f"--{k}") for k, v in given.items() if v is not None}
    run(
        report, baseline, pinned, limits, fused=fused, parity=parity, clock=clock, first=first,
        junit=junit, summary=summary, as_json=json,
    )  # fmt: skip


def report(
    reports: Annotated[
        list[Path],
        typer.Argument(
            help="report.json or its folder; several, of other tasks, give one table with the "
            "GLUE average (--to markdown)."
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            help="html, markdown, junit, github-benchmark-smaller, github-benchmark-bigger, "
            "bencher or openmetrics."
        ),
    ] = "html",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; stdout if left out.")
    ] = None,
) -> None:
    """Write a report in another format, for people or for machines."""
    from compress_export.commands.report import run

    run(reports, to, out)


def history(
    folder: Annotated[Path, typer.Argument(help="Folder of report.json files, one a commit.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Page to write.")] = Path("history.html"),
    json: opt.Json = False,
) -> None:
    """Draw how latency and accuracy changed over a folder of reports."""
    from compress_export.commands.history import run

    run(folder, out, as_json=json)
