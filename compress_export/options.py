"""Options that commands share, and a recipe from options. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from compress.errors import RecipeError

__all__ = [
    "AlarmGate",
    "Batch",
    "BatchSize",
    "Batches",
    "Contenders",
    "Data",
    "Device",
    "DryRun",
    "Epochs",
    "Examples",
    "Isolate",
    "Json",
    "LayerMap",
    "Learn",
    "LearningRate",
    "Limit",
    "Macs",
    "MaxLength",
    "Model",
    "MoreTexts",
    "Openings",
    "Out",
    "Parameters",
    "Patience",
    "ReportFile",
    "ReportFolder",
    "Rounds",
    "Runs",
    "Seed",
    "Seeds",
    "Sequence",
    "Sequences",
    "Speedup",
    "Spread",
    "Strategy",
    "Task",
    "TaskOrTexts",
    "Temperature",
    "Texts",
    "Threads",
    "TrainPrecision",
    "Trials",
    "Units",
    "Variant",
    "layer_map",
    "recipe_of",
    "refuse_with",
    "refuse_without",
    "settings",
    "share_of",
    "task_of",
    "weights",
]

Model = Annotated[
    str,
    typer.Argument(help="Checkpoint folder, or a Hub id (org/name@revision).", show_default=False),
]
Task = Annotated[
    str,
    typer.Option(
        help="GLUE task: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli; or a YAML file with "
        "train, validation, text and label of your own."
    ),
]
TaskOrTexts = Annotated[
    str | None,
    typer.Option("--task", help="GLUE task or YAML file, as for `evaluate`; or give --texts."),
]
Data = Annotated[
    Path | None, typer.Option(help="Folder of GLUE's TSV folders; left out, the Hub is used.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Output folder: new, empty or ours.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines on stdout.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Check all, foretell size, time and memory, write nothing."),
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
Seeds = Annotated[
    list[int] | None,
    typer.Option("--seed", min=0, help="Of order, dropout and new weights; repeat for several."),
]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the training data.")]


def _checked_rate(rate: float) -> float:
    if not 0 < rate < 1:
        raise RecipeError(
            f"--learning-rate must be above 0 and below 1, found {rate:g}; 5e-5 is usual"
        )
    return rate


LearningRate = Annotated[float, typer.Option(callback=_checked_rate, help="At its peak.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Examples a process and step.")]
TrainPrecision = Annotated[
    str, typer.Option("--precision", help="Of matrix products: fp32, bf16 or fp16.")
]
GradientCheckpointing = Annotated[
    bool, typer.Option(help="Compute activations again in the backward pass, to save memory.")
]
TeacherDevice = Annotated[
    str | None,
    typer.Option(help="Where the teacher runs, such as cuda:1; left out, beside the student."),
]
MoreTexts = Annotated[
    Path | None,
    typer.Option(help="Text file to learn from beside the task's data, without labels."),
]
Patience = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Stop after so many looks, four an epoch, at held-out training examples without a "
        "gain.",
    ),
]
Learn = Annotated[
    list[str] | None,
    typer.Option(
        help="SIGNAL=WEIGHT among labels, logits, hidden, embeddings, attention and relations; "
        "repeat. Left out: logits=1 and hidden=10; once given, all others are 0."
    ),
]
LayerMap = Annotated[
    str | None,
    typer.Option("--layers", help="source, uniform, last, nearest, or pairs such as 1:2,2:4."),
]
Strategy = Annotated[
    str,
    typer.Option(
        help="Which layers: top, bottom, symmetric, alternate, alternate-odd, contribution or "
        "leave-one-out."
    ),
]
Runs = Annotated[int | None, typer.Option(min=1, help="Of --aa: how often [20].")]
AlarmGate = Annotated[
    str | None, typer.Option("--gate", help="Of --aa: the change that would be an alarm [5%].")
]
Contenders = Annotated[
    list[str],
    typer.Argument(
        help="[NAME=][RUNTIME:]PATH[@VARIANT]; the first is the base. Runtimes: onnxruntime, "
        "cuda-graph, torch, torch-compile, openvino, openvino-bf16."
    ),
]
Batches = Annotated[list[int] | None, typer.Option("--batch", min=1, help="Sequences; repeat.")]
Sequences = Annotated[
    list[int] | None, typer.Option("--sequence", min=2, help="Tokens each; repeat.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or tensorrt.")]
Spread = Annotated[
    str,
    typer.Option("--precision", help="Half-width of every ratio's 95 % interval at which to stop."),
]
Rounds = Annotated[int, typer.Option(min=1, help="Samples each, at most.")]
Isolate = Annotated[
    bool, typer.Option("--isolate", help="Run each contender in a process of its own.")
]
Openings = Annotated[
    int, typer.Option(min=1, help="Times that all are opened anew, which has luck of its own.")
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Cores to bind to; all that there are if left out.")
]
ReportFile = Annotated[Path, typer.Argument(help="A report.json, or the folder that holds it.")]
ReportFolder = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder to write report.json, .md, .html to.")
]
Limit = Annotated[
    str | None, typer.Option(help="Change for the worse that is allowed, such as 5%.")
]
Temperature = Annotated[float, typer.Option(help="Of the logits' divergence.")]


def recipe_of(
    model: str,
    task: str | None,
    texts: Path | None,
    data: Path | None,
    *,
    target: dict[str, Any] | None = None,
    prune: dict[str, Any] | None = None,
    recover: dict[str, Any] | None = None,
    max_length: int,
    seed: int = 0,
) -> dict[str, Any]:
    """A recipe from options; those left out (`None`) keep the recipe's defaults."""
    if (task is None) == (texts is None):
        raise typer.BadParameter("give --task NAME or --texts FILE, one of the two")
    target, prune = target or {}, prune or {}
    if isinstance(prune.get("units"), str):
        prune = prune | {"units": [unit.strip() for unit in prune["units"].split(",")]}
    benchmark: dict[str, Any] = {"max_length": max_length}
    if "sequence" in target:
        benchmark["sequences"] = [target["sequence"]]
    return {
        "model": model,
        "task": {"texts": texts} if texts else task_of(str(task)),
        "data": data,
        "target": _given(target),
        "prune": _given(prune),
        "recover": recover or {},
        "benchmark": benchmark,
        "seed": seed,
    }


def task_of(task: str) -> str | dict[str, Any]:
    """A GLUE task's name; or the task of a YAML file, its paths taken from the file's folder."""
    path = Path(task)
    if path.suffix not in (".yaml", ".yml"):
        return task
    import yaml

    from compress_export.strict_yaml import read_yaml

    try:
        found = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise typer.BadParameter(
            f"--task must be a GLUE task or a readable YAML file, found "
            f"{' '.join(str(error).split())}"
        ) from error
    found = found.get("task", found) if isinstance(found, dict) else found
    if not isinstance(found, dict):
        raise typer.BadParameter(
            f"{task} must hold train, validation, text and label, or a recipe with such a task, "
            f"found {found!r}"
        )
    files = {k: str(path.parent / str(found[k])) for k in ("train", "validation") if k in found}
    return found | files


def refuse_with(option: str, others: dict[str, Any]) -> None:
    """Refuse options that would do nothing beside one that was given."""
    for name, value in others.items():
        if value is not None:
            raise typer.BadParameter(
                f"{name} does not go with {option}, found {value}; leave it out"
            )


def refuse_without(option: str, others: dict[str, Any]) -> None:
    """Refuse options that do nothing where another is left out."""
    for name, value in others.items():
        if value is not None:
            raise typer.BadParameter(f"{name} needs {option}, found {value} alone; give both")


def share_of(text: str, option: str) -> float:
    """A share from `5%` or `0.05`.

    Args:
        text: As given.
        option: Whose it is, for the message.

    Example:
        >>> share_of("5%", "--latency"), share_of("0.05", "--latency")
        (0.05, 0.05)
    """
    try:
        value = float(text.rstrip("% ")) / (100 if text.rstrip().endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise typer.BadParameter(
            f"{option} must be a share from 0 to 1, such as 5% or 0.05, found {text!r}; correct it"
        )
    return value


def weights(learn: list[str] | None) -> dict[str, Any]:
    """An objective's weights from SIGNAL=WEIGHT; those left out are 0 once one is given."""
    if not learn:
        return {}
    found: dict[str, Any] = dict.fromkeys(
        ("labels", "logits", "hidden", "embeddings", "attention", "relations"), 0.0
    )
    for entry in learn:
        name, separator, weight = entry.partition("=")
        if name not in found or not separator:
            raise typer.BadParameter(
                f"--learn must be SIGNAL=WEIGHT with a signal among {', '.join(found)}, found "
                f"{entry!r}; for example --learn logits=1"
            )
        found[name] = weight
    return found


def settings(given: list[str] | None) -> dict[str, object]:
    """A config's fields from FIELD=VALUE, the values as YAML reads them."""
    import yaml

    found: dict[str, object] = {}
    for entry in given or []:
        name, separator, value = entry.partition("=")
        if not separator:
            raise typer.BadParameter(
                f"--set must be FIELD=VALUE, found {entry!r}; for example --set hidden_size=128"
            )
        found[name] = yaml.safe_load(value)
    return found


def layer_map(given: str | None) -> str | list[list[str]] | None:
    """A layer map's name, or its pairs from `1:2,2:4`."""
    if given is None or ":" not in given:
        return given
    return [pair.split(":") for pair in given.split(",")]


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
