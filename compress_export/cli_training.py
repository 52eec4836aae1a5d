"""The commands that train: arguments in, one call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from compress_export import options as opt

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (finetune, student, distill, remember):
        app.command()(command)


def _recipe(
    model: str,
    task: str | None,
    texts: Path | None,
    data: Path | None,
    max_length: int,
    recover: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A recipe of no target: MACs are counted at 64 tokens, or at what texts are cut to."""
    target = {"sequence": min(64, max_length)}
    return opt.recipe_of(
        model, task, texts, data, target=target, max_length=max_length, recover=recover
    )


def finetune(
    model: opt.Model,
    out: opt.Out,
    task: opt.Task,
    data: opt.Data = None,
    epochs: opt.Epochs = 3,
    learning_rate: opt.LearningRate = 5e-5,
    batch_size: opt.BatchSize = 32,
    precision: opt.TrainPrecision = "fp32",
    patience: opt.Patience = None,
    gradient_checkpointing: opt.GradientCheckpointing = False,
    drop_layers: Annotated[int, typer.Option(min=0, help="Layers to drop first.")] = 0,
    strategy: opt.Strategy = "top",
    max_length: opt.MaxLength = 128,
    seed: opt.Seeds = None,
    json: opt.Json = False,
) -> None:
    """Fine-tune an encoder on a task, whole or with layers dropped first."""
    from compress_export.commands.finetune import run

    recover = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size,
               "precision": precision, "patience": patience,
               "gradient_checkpointing": gradient_checkpointing,
               "objective": {"labels": 1.0, "logits": 0.0, "hidden": 0.0}}  # fmt: skip
    recipe = _recipe(model, task, None, data, max_length, recover)
    run(recipe, out, seed or [0], drop_layers, strategy, as_json=json)


def student(
    teacher: opt.Model,
    out: opt.Out,
    layer: Annotated[
        list[int] | None, typer.Option(min=0, help="Layer to keep, from 0; repeat.")
    ] = None,
    heads: Annotated[int | None, typer.Option(min=1, help="Heads of each layer.")] = None,
    neurons: Annotated[int | None, typer.Option(min=1, help="FFN neurons of each layer.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE of the config, for fresh random weights; repeat."),
    ] = None,
    seed: opt.Seed = 0,
) -> None:
    """Make a student to distil into: layers and units of a teacher, or a fresh smaller model."""
    from compress_export.commands.student import cut, fresh

    chosen = layer or heads or neurons
    if bool(chosen) == bool(setting):
        raise typer.BadParameter(
            "give --layer, --heads or --neurons to cut the teacher, or --set for fresh weights"
        )
    if setting:
        fresh(teacher, out, opt.settings(setting), seed)
    else:
        cut(teacher, out, layer, heads, neurons)


def distill(
    student: Annotated[str, typer.Argument(help="Checkpoint to train.", show_default=False)],
    out: opt.Out,
    teacher: Annotated[str | None, typer.Option(help="Checkpoint to learn from.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="What `remember` kept of the teacher, in its place.")
    ] = None,
    task: opt.TaskOrTexts = None,
    texts: opt.Texts = None,
    data: opt.Data = None,
    epochs: opt.Epochs = 2,
    learning_rate: opt.LearningRate = 1e-4,
    batch_size: opt.BatchSize = 32,
    precision: opt.TrainPrecision = "fp32",
    patience: opt.Patience = None,
    gradient_checkpointing: opt.GradientCheckpointing = False,
    teacher_device: opt.TeacherDevice = None,
    learn: opt.Learn = None,
    layers: opt.LayerMap = None,
    temperature: opt.Temperature = 2.0,
    prune_to: Annotated[
        float | None,
        typer.Option(help="Prune the student while it learns, to this share of its MACs."),
    ] = None,
    more_texts: opt.MoreTexts = None,
    max_length: opt.MaxLength = 128,
    seed: opt.Seeds = None,
    json: opt.Json = False,
) -> None:
    """Train a student on its teacher's logits and hidden states."""
    from compress_export.commands.distill import run

    objective = opt.weights(learn) | {"layers": opt.layer_map(layers), "temperature": temperature}
    recover = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size,
               "precision": precision, "patience": patience, "objective": objective,
               "gradient_checkpointing": gradient_checkpointing,
               "teacher_device": teacher_device}  # fmt: skip
    if (teacher is None) == (store is None):
        raise typer.BadParameter("give --teacher MODEL or --store FOLDER, one of the two")
    if store is not None and teacher_device is not None:
        raise typer.BadParameter("--teacher-device goes with --teacher; leave it out")
    model = teacher or student
    recipe = _recipe(model, task, texts, data, max_length, recover)
    run(student, store, recipe, prune_to, more_texts, out, seed or [0], as_json=json)


def remember(
    teacher: opt.Model,
    out: opt.Out,
    task: opt.TaskOrTexts = None,
    texts: opt.Texts = None,
    data: opt.Data = None,
    depth: Annotated[
        int | None, typer.Option(min=0, help="Upper layers of the student; 0 for logits alone.")
    ] = 1,
    length: Annotated[int, typer.Option(min=1, help="Tokens of an example.")] = 10,
    width: Annotated[float, typer.Option(help="Share of a token's features.")] = 0.1,
    tokens: Annotated[
        str, typer.Option(help="Which: attention (of the first token) or left.")
    ] = "attention",
    features: Annotated[
        str, typer.Option(help="Which: magnitude, random or uniform.")
    ] = "magnitude",
    student_layers: Annotated[
        int | None, typer.Option(min=1, help="Layers of the student; left out, the teacher's.")
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Teacher's layer for the student's last; its last.")
    ] = None,
    more_texts: opt.MoreTexts = None,
    max_length: opt.MaxLength = 128,
    json: opt.Json = False,
) -> None:
    """Run a teacher once and store what students will learn from, so that none is loaded later."""
    from compress.distillation.cache_spec import CacheSpec
    from compress_export.commands.remember import run
    from compress_export.keeping import Wanted

    knowledge = CacheSpec(
        depth=depth, max_tokens=length, feature_fraction=width,
        tokens=tokens, features=features,  # type: ignore[arg-type]
    )  # fmt: skip
    wanted = Wanted(knowledge=knowledge, student_layers=student_layers, top=top)
    recipe = _recipe(teacher, task, texts, data, max_length)
    run(recipe, wanted, more_texts, out, as_json=json)
