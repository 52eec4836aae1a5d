"""`sweep …`: many recipes as one. Arguments in, one call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress_export import options as opt

__all__ = ["add_to"]

sweeps = typer.Typer(
    name="sweep",
    help="Many recipes as one: models, tasks, targets and methods, here or on a cluster.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

SweepFile = Annotated[Path, typer.Argument(help="YAML with `recipe` and `axes`.")]
Executor = Annotated[str, typer.Option(help="local, or ray (extra `ray`).")]
Address = Annotated[
    str | None, typer.Option(help="Of a Ray cluster; left out, RAY_ADDRESS or one started here.")
]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, help="Stages at once on a node; left out, one a core, four at most."),
]
Shared = Annotated[
    str | None,
    typer.Option(help="Folder or URL where finished runs are shared between machines."),
]
Gate = Annotated[
    list[str] | None,
    typer.Option(help="retention, speedup, latency_ms.p50 (p90, p95, p99) or size_mb, =NUMBER."),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    sweeps.command("run")(run)
    sweeps.command("search")(search)
    sweeps.command("best")(best)
    app.add_typer(sweeps)


def run(
    file: SweepFile,
    out: opt.Out,
    executor: Executor = "local",
    address: Address = None,
    jobs: Jobs = None,
    store: Shared = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="List the runs, what is left, and how long it will take."),
    ] = False,
    json: opt.Json = False,
) -> None:
    """Do every combination of the axes that is not done yet, and report on all of them."""
    from compress_export.commands.sweep import Workplace
    from compress_export.commands.sweep import run as run_sweep

    where = Workplace(executor=executor, address=address, jobs=jobs, store=store)
    run_sweep(file, out, where, dry_run=dry_run, as_json=json)


def search(
    file: Annotated[Path, typer.Argument(help="YAML with `recipe` and `search`.")],
    out: opt.Out,
    trials: Annotated[int, typer.Option(min=1, help="Trials that the folder is to have.")] = 20,
    storage: Annotated[
        str | None,
        typer.Option(help="Optuna URL, or a file, that several searches share."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the study in its storage; left out, the file's name.")
    ] = None,
    executor: Executor = "local",
    address: Address = None,
    jobs: Jobs = None,
    store: Shared = None,
    json: opt.Json = False,
) -> None:
    """Search over recipes (Optuna): most accuracy kept at the least latency."""
    from compress_export.commands.sweep import Workplace
    from compress_export.commands.sweep import search as run_search

    where = Workplace(executor=executor, address=address, jobs=jobs, store=store)
    run_search(file, out, where, trials=trials, storage=storage, name=name, as_json=json)


def best(
    folder: Annotated[Path, typer.Argument(help="Folder of a sweep.")],
    gate: Gate = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="AXIS=VALUE, task=…, device=… or variant=…: which runs are meant."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="What is best: retention, speedup or size.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Copy the winner's folder here.")
    ] = None,
    json: opt.Json = False,
) -> None:
    """Find the best run within gates, and copy its bundle out."""
    from compress_export.commands.sweep import find_best

    find_best(folder, gate or (), where or (), by, out, as_json=json)
