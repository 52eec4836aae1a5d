"""Options that commands share, and a recipe from options. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "Batch",
    "Data",
    "DryRun",
    "Examples",
    "Json",
    "Macs",
    "MaxLength",
    "Model",
    "Out",
    "Parameters",
    "Seed",
    "Sequence",
    "Speedup",
    "Task",
    "TaskOrTexts",
    "Texts",
    "Trials",
    "Units",
    "Variant",
    "recipe_of",
]

Model = Annotated[str, typer.Argument(help="Checkpoint folder, or a Hub id.", show_default=False)]
Task = Annotated[
    str, typer.Option(help="GLUE task: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli.")
]
TaskOrTexts = Annotated[
    str | None, typer.Option("--task", help="GLUE task, as for `evaluate`; or give --texts.")
]
Data = Annotated[
    Path | None, typer.Option(help="Folder of GLUE's TSV folders; left out, the Hub is used.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Output folder: new, empty or ours.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines on stdout.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Check all, print the predicted cost, write nothing."),
]
Variant = Annotated[str | None, typer.Option(help="Variant of a bundle, such as cpu-fp32.")]
Sequence = Annotated[int, typer.Option(min=2, help="Tokens per sequence.")]
MaxLength = Annotated[int, typer.Option(min=2, help="Tokens at which texts are cut.")]
Macs = Annotated[float | None, typer.Option(help="Share of encoder MACs to keep; 0.5 if left out.")]
Parameters = Annotated[float | None, typer.Option(help="Share of encoder parameters to keep.")]
Examples = Annotated[int, typer.Option(min=1, help="Training examples to look at.")]
Texts = Annotated[
    Path | None,
    typer.Option(help="Text file to calibrate on in place of a task: any head, no labels."),
]
Speedup = Annotated[
    float | None, typer.Option(help="Measured speed-up over the unpruned float32 model.")
]
Units = Annotated[
    str | None,
    typer.Option(help="What may go, with commas: heads, neurons, sublayers, layers."),
]
Trials = Annotated[
    int | None,
    typer.Option(min=0, help="Plans tried at each target, with score obs; 8 if left out."),
]
Batch = Annotated[int, typer.Option(min=1, help="Sequences at a time.")]
Seed = Annotated[int, typer.Option(min=0, help="Of sampling.")]


def recipe_of(
    model: str,
    task: str | None,
    texts: Path | None,
    data: Path | None,
    *,
    target: dict[str, Any],
    prune: dict[str, Any],
    max_length: int,
    seed: int,
) -> dict[str, Any]:
    """A recipe from options; those left out (`None`) keep the recipe's defaults."""
    if (task is None) == (texts is None):
        raise typer.BadParameter("give --task NAME or --texts FILE, one of the two")
    if isinstance(prune.get("units"), str):
        prune = prune | {"units": [unit.strip() for unit in prune["units"].split(",")]}
    return {
        "model": model,
        "task": {"texts": texts} if texts else task,
        "data": data,
        "target": _given(target),
        "prune": _given(prune),
        "benchmark": {"max_length": max_length, "sequences": [target["sequence"]]},
        "seed": seed,
    }


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
