"""The command line: arguments in, one call, an exit status out (see `compress_export.exits`).

Heavy imports happen inside commands.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from compress_export import cli_measure, cli_serving, cli_studies, cli_sweep, cli_training
from compress_export import options as opt
from compress_export.exits import run_app

__all__ = ["app", "main"]

app = typer.Typer(
    name="compress-export",
    help="Prune a fine-tuned transformer encoder, export it to ONNX, and prove what it kept.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    context.obj = {"debug": debug}
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("compress-export"))
        raise typer.Exit


@app.command()
def inspect(model: opt.Model, sequence: opt.Sequence = 128, json: opt.Json = False) -> None:
    """Show a model's layers, heads, neurons, parameters and MACs."""
    from compress_export.commands.inspect import run

    run(model, sequence, json)


@app.command()
def prune(
    model: opt.Model,
    out: opt.Out,
    task: opt.TaskOrTexts = None,
    texts: opt.Texts = None,
    data: opt.Data = None,
    speedup: opt.Speedup = None,
    macs: opt.Macs = None,
    parameters: opt.Parameters = None,
    precision: Annotated[
        str, typer.Option(help="What --speedup is measured in: fp32, int8 or int8-static.")
    ] = "fp32",
    score: Annotated[
        str | None,
        typer.Option(
            help="obs, kprune, fisher, michel, magnitude, activation or random; by default obs, "
            "or fisher with --layout uniform or --drop-layers."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Times that units are scored again.")
    ] = None,
    repair: Annotated[bool, typer.Option(help="Refit output projections.")] = True,
    units: opt.Units = None,
    layout: Annotated[
        str, typer.Option(help="free, or uniform: the same sizes in every layer.")
    ] = "free",
    drop_layers: Annotated[int, typer.Option(min=0, help="Layers to drop first.")] = 0,
    strategy: opt.Strategy = "top",
    calibration_examples: opt.Examples = 2048,
    batch: opt.Batch = 8,
    sequence: opt.Sequence = 64,
    max_length: opt.MaxLength = 128,
    seed: opt.Seed = 0,
    streamed: Annotated[
        bool,
        typer.Option(
            "--streamed", help="One layer in memory at a time, for a share of macs or parameters."
        ),
    ] = False,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
) -> None:
    """Prune a model to a speed-up or a share of its encoder and write a checkpoint."""
    from compress_export.commands.prune import run

    choice = {"score": score, "steps": steps, "repair": repair, "layout": layout}
    choice |= {"drop_layers": drop_layers, "strategy": strategy}
    recipe = opt.recipe_of(
        model, task, texts, data,
        target={"speedup": speedup, "macs": macs, "parameters": parameters,
                "batch": batch, "sequence": sequence, "precision": [precision]},
        prune=choice | {"units": units, "calibration_examples": calibration_examples},
        max_length=max_length, seed=seed,
    )  # fmt: skip
    run(recipe, out, streamed=streamed, dry_run=dry_run, as_json=json)


@app.command()
def frontier(
    model: opt.Model,
    out: opt.Out = Path("frontier"),
    task: opt.TaskOrTexts = None,
    texts: opt.Texts = None,
    data: opt.Data = None,
    speedup: Annotated[
        list[float] | None,
        typer.Option(help="Target; repeat. Left out: 1.25, 1.5, 2, 3, 4 and 6."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="fp32, int8, int8-static or fp16; repeat. Left out: fp32 and int8, or fp16."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    batch: opt.Batch = 8,
    sequence: opt.Sequence = 64,
    lengths: Annotated[
        bool, typer.Option("--lengths", help="Mix of the training texts' lengths, at --batch.")
    ] = False,
    units: opt.Units = None,
    baselines: Annotated[bool, typer.Option(help="Measure simpler methods too.")] = True,
    table: Annotated[Path | None, typer.Option(help="Latency table of `profile`.")] = None,
    force_table: Annotated[
        bool, typer.Option("--force-table", help="Use a table of another machine or runtime.")
    ] = False,
    calibration_examples: opt.Examples = 2048,
    trials: opt.Trials = None,
    epochs: Annotated[
        int, typer.Option(min=0, help="Train each student so long, and go on from it.")
    ] = 0,
    learning_rate: opt.LearningRate = 1e-4,
    max_length: opt.MaxLength = 128,
    seed: opt.Seed = 0,
    json: opt.Json = False,
) -> None:
    """Make a student at each of several speed-ups in one run; draw what they keep."""
    from compress_export.commands.frontier import run

    targets = speedup or [1.25, 1.5, 2.0, 3.0, 4.0, 6.0]
    second = "int8" if device == "cpu" else "fp16"
    recipe = opt.recipe_of(
        model, task, texts, data,
        target={"speedup": max(targets), "device": device, "batch": batch, "sequence": sequence,
                "precision": precision or ["fp32", second], "mix": "data" if lengths else None,
                "table": table, "force_table": force_table},
        prune={"units": units, "calibration_examples": calibration_examples, "trials": trials},
        recover={"epochs": epochs, "learning_rate": learning_rate},
        max_length=max_length, seed=seed,
    )  # fmt: skip
    run(recipe, targets, out, with_baselines=baselines, as_json=json)


@app.command()
def profile(
    model: opt.Model,
    batch: opt.Batches = None,
    sequence: opt.Sequences = None,
    variant: Annotated[str, typer.Option(help="Variant to measure.")] = "cpu-fp32",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the table, JSON.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the curves, SVG.")] = None,
    spread: Annotated[
        float, typer.Option(min=1e-6, help="Relative half-width of intervals at which to stop.")
    ] = 0.01,
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds per workload, at most.")] = 30.0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again, cached or not.")] = False,
    json: opt.Json = False,
) -> None:
    """Measure what heads and neurons cost on this machine; say where latency is flat."""
    from benchmarks.profile import Effort
    from compress_export.commands.profile import run

    workloads = [(b, s) for b in batch or [8] for s in sequence or [64]]
    effort = Effort(precision=spread, seconds=seconds)
    run(model, workloads, variant, out, picture, effort, fresh=fresh, as_json=json)


@app.command()
def expand(model: opt.Model, out: opt.Out) -> None:
    """Write a pruned checkpoint in stock shapes, zeros where units are gone."""
    from compress_export.commands.expand import run

    run(model, out)


@app.command()
def families(json: opt.Json = False) -> None:
    """List the supported families and what each of them supports."""
    from compress_export.commands.families import run

    run(as_json=json)


@app.command()
def scores(
    model: opt.Model,
    task: opt.Task,
    data: opt.Data = None,
    macs: Annotated[float, typer.Option(help="Share of encoder MACs to keep.")] = 0.5,
    steps: Annotated[int, typer.Option(min=1, help="Times that units are scored again.")] = 1,
    calibration_examples: opt.Examples = 2048,
    sequence: opt.Sequence = 64,
    max_length: opt.MaxLength = 128,
    seed: opt.Seed = 0,
    json: opt.Json = False,
) -> None:
    """Compare every score at one budget, with and without repair, against random."""
    from compress_export.commands.scores import run

    recipe = {
        "model": model,
        "task": opt.task_of(task),
        "data": data,
        "target": {"macs": macs, "sequence": sequence},
        "prune": {"score": "fisher", "steps": steps, "calibration_examples": calibration_examples},
        "benchmark": {"max_length": max_length, "sequences": [sequence]},
        "seed": seed,
    }
    run(recipe, as_json=json)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe, see `compress-export schema`.")],
    out: opt.Out = Path("out"),
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
) -> None:
    """Do all of it from a recipe: prune, export, verify, measure, report."""
    from compress_export.commands.run import run as run_recipe

    run_recipe(recipe, out, dry_run=dry_run, as_json=json)


@app.command()
def demo(
    out: opt.Out = Path("demo-out"),
    task: Annotated[
        str | None, typer.Option(help="A GLUE task in place of the built-in one; needs --data.")
    ] = None,
    data: opt.Data = None,
    json: opt.Json = False,
) -> None:
    """Fine-tune a small real encoder, halve it, export it, measure it, report."""
    from compress_export.commands.demo import run

    run(out, task, data, as_json=json)


@app.command()
def doctor(json: opt.Json = False) -> None:
    """Look at this machine: libraries, providers, cores, what is missing."""
    from compress_export.commands.doctor import run

    run(as_json=json)


@app.command()
def schema() -> None:
    """Print the recipe's JSON Schema, for editors."""
    from compress_export.commands.schema import run

    run()


cli_measure.add_to(app)
cli_serving.add_to(app)
cli_training.add_to(app)
cli_studies.add_to(app)
cli_sweep.add_to(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Progress is ours to show; other libraries' bars and notices would bury it.
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    sys.exit(run_app(app, arguments))
