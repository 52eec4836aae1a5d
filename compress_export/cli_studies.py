"""`study …`: the papers' questions, one command each. Arguments in, one call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress_export import options as opt

if TYPE_CHECKING:
    from compress_export.studies.question import Question

__all__ = ["add_to"]

studies = typer.Typer(
    name="study",
    help="Ask the papers' questions of your own model: data, figures, and whether each claim held.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

StudyModel = Annotated[
    str, typer.Option("--model", help="Checkpoint folder, or a Hub id (org/name@revision).")
]
FineTuned = Annotated[
    str | None,
    typer.Option("--model", help="Checkpoint to fine-tune for tasks without --teacher."),
]
Tasks = Annotated[
    list[str],
    typer.Option(
        "--task",
        "--tasks",
        show_default=False,
        help="GLUE task, or a YAML file as for `evaluate`; repeat.",
    ),
]
Text = Annotated[Path, typer.Option(help="Text file, or a folder of .txt files.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="A part of data, grid and seeds: minutes on two cores.")
]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Processes; left out, one a core, four at most.")
]
Teachers = Annotated[
    list[str] | None,
    typer.Option(help="TASK=CHECKPOINT of the model fine-tuned already; repeat. Else one is made."),
]
TrainExamples = Annotated[
    int | None, typer.Option(min=1, help="Training examples; all if left out.")
]
StudyEpochs = Annotated[int | None, typer.Option("--epochs", min=1, help="Of a fine-tuning.")]
Blocks = Annotated[int | None, typer.Option(min=1, help="Blocks of text, at most.")]
BlockLength = Annotated[int, typer.Option("--max-length", min=8, help="Tokens of a block.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    studies.command("mlm-head")(mlm_head)
    studies.command("mlm-pretrain")(mlm_pretrain)
    studies.command("heads")(heads)
    studies.command("masks")(masks)
    studies.command("adapt")(adapt)
    studies.command("layers")(layers)
    studies.command("knowledge")(knowledge)
    app.add_typer(studies)


def heads(
    model: StudyModel,
    task: Tasks,
    out: opt.Out,
    texts: Annotated[
        Path | None,
        typer.Option(help="Running text for the masked-language head: a file or a folder."),
    ] = None,
    teacher: Teachers = None,
    data: opt.Data = None,
    train: TrainExamples = None,
    epochs: StudyEpochs = None,
    max_length: opt.MaxLength = 128,
    quick: Quick = False,
    seed: opt.Seeds = None,
    jobs: Jobs = None,
    json: opt.Json = False,
) -> None:
    """Which heads matter under which loss, how far rankings agree, and what pruning costs."""
    from compress_export.commands.study import run
    from compress_export.studies.heads import study_heads

    question = _question(model, task, data, out, seed, quick, max_length, epochs, train, teacher)
    text = None if texts is None else str(texts)
    run("heads", question, lambda grid: study_heads(question, text, grid), jobs, as_json=json)


def masks(
    task: Tasks,
    out: opt.Out,
    model: FineTuned = None,
    teacher: Teachers = None,
    data: opt.Data = None,
    train: TrainExamples = None,
    epochs: StudyEpochs = None,
    max_length: opt.MaxLength = 128,
    quick: Quick = False,
    seed: opt.Seeds = None,
    jobs: Jobs = None,
    json: opt.Json = False,
) -> None:
    """Learnt masks (subset, hard-concrete, movement, adapting) against plans without training."""
    from compress_export.commands.study import run
    from compress_export.studies.masks import study_masks

    source = _source(model, task, teacher)
    question = _question(source, task, data, out, seed, quick, max_length, epochs, train, teacher)
    run("masks", question, lambda grid: study_masks(question, grid), jobs, as_json=json)


def adapt(
    model: StudyModel,
    task: Tasks,
    out: opt.Out,
    data: opt.Data = None,
    train: TrainExamples = None,
    epochs: StudyEpochs = None,
    max_length: opt.MaxLength = 128,
    updates: Annotated[
        int | None,
        typer.Option(
            min=1, help="For a mask; from 25000 on, masks on weights move by the paper's update."
        ),
    ] = None,
    quick: Quick = False,
    seed: opt.Seeds = None,
    jobs: Jobs = None,
    json: opt.Json = False,
) -> None:
    """Adapting by pruning: masks on weights as published, and on heads and neurons, removed."""
    from compress_export.commands.study import run
    from compress_export.studies.adapt import study_adapt

    question = _question(model, task, data, out, seed, quick, max_length, epochs, train)
    run("adapt", question, lambda grid: study_adapt(question, grid, updates), jobs, as_json=json)


def layers(
    model: StudyModel,
    task: Tasks,
    out: opt.Out,
    data: opt.Data = None,
    drop: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Layers to drop; repeat. Left out: a third, half, two thirds."),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="Which layers, as for `finetune`; repeat. Left out: all strategies."),
    ] = None,
    distil: Annotated[
        bool, typer.Option("--distil", help="Add students that learn from the whole model.")
    ] = False,
    train: TrainExamples = None,
    epochs: StudyEpochs = None,
    max_length: opt.MaxLength = 128,
    quick: Quick = False,
    seed: opt.Seeds = None,
    jobs: Jobs = None,
    json: opt.Json = False,
) -> None:
    """What dropping layers costs: by strategy, number and task, before fine-tuning or after."""
    from compress_export.commands.study import run
    from compress_export.studies.layers import LayerGrid, study_layers

    wanted = LayerGrid(
        drops=tuple(drop or ()),
        strategies=tuple(strategy or ()),
        distil=distil,
    )
    question = _question(model, task, data, out, seed, quick, max_length, epochs, train)
    run("layers", question, lambda grid: study_layers(question, wanted, grid), jobs, as_json=json)


def knowledge(
    task: Tasks,
    out: opt.Out,
    model: FineTuned = None,
    teacher: Teachers = None,
    student: Annotated[
        str | None, typer.Option(help="Checkpoint to teach; left out, two are made.")
    ] = None,
    data: opt.Data = None,
    depth: Annotated[list[int] | None, typer.Option(min=1, help="Layers; repeat.")] = None,
    length: Annotated[list[int] | None, typer.Option(min=1, help="Tokens; repeat.")] = None,
    width: Annotated[list[float] | None, typer.Option(help="Share of features; repeat.")] = None,
    train: TrainExamples = None,
    epochs: StudyEpochs = None,
    max_length: opt.MaxLength = 128,
    quick: Quick = False,
    seed: opt.Seeds = None,
    jobs: Jobs = None,
    json: opt.Json = False,
) -> None:
    """What each share of a teacher's hidden states is worth, and what leaving it out saves."""
    from compress_export.commands.study import run
    from compress_export.studies.knowledge import KnowledgeGrid, study_knowledge

    wanted = KnowledgeGrid(
        depths=tuple(dict.fromkeys(depth or ())), lengths=tuple(dict.fromkeys(length or ())),
        widths=tuple(dict.fromkeys(width or ())),
        student=student,
    )  # fmt: skip
    source = _source(model, task, teacher)
    question = _question(source, task, data, out, seed, quick, max_length, epochs, train, teacher)
    run(
        "knowledge", question, lambda grid: study_knowledge(question, wanted, grid), jobs,
        as_json=json,
    )  # fmt: skip


def _source(model: str | None, tasks: list[str], teachers: list[str] | None) -> str:
    """The checkpoint that a study starts from: --model, or any teacher where all are given."""
    from compress_export.studies.question import tasks_of, teachers_of

    names = list(tasks_of(tasks))
    given = teachers_of(teachers, names)
    missing = [task for task in names if task not in given]
    if model is None and missing:
        raise typer.BadParameter(
            f"--model must name what to fine-tune for {missing[0]}, found none; or give "
            f"--teacher {missing[0]}=CHECKPOINT"
        )
    return model or given[names[0]]


def _question(
    model: str,
    tasks: list[str],
    data: Path | None,
    out: Path,
    seeds: list[int] | None,
    quick: bool,
    max_length: int,
    epochs: int | None,
    train: int | None,
    teachers: list[str] | None = None,
) -> Question:
    from compress_export.studies.question import Question, tasks_of, teachers_of

    given = tasks_of(tasks)
    return Question(
        model=model, tasks=tuple(given), given=given, data=data, out=out,
        seeds=tuple(dict.fromkeys(seeds or [0])),
        quick=quick, max_length=max_length, epochs=epochs, train=train,
        teachers=teachers_of(teachers, given),
    )  # fmt: skip


def mlm_head(
    model: StudyModel,
    texts: Text,
    out: opt.Out,
    epochs: opt.Epochs = 1,
    learning_rate: opt.LearningRate = 1e-3,
    batch_size: opt.BatchSize = 16,
    max_length: BlockLength = 128,
    blocks: Blocks = None,
    quick: Quick = False,
    seed: opt.Seed = 0,
    json: opt.Json = False,
) -> None:
    """Give an encoder the masked-language head that it came without; the encoder stays as it is."""
    from compress_export.commands.study import head_of_language
    from compress_export.studies.language import spec_of

    spec = spec_of(
        texts, max_length, 2048 if quick and blocks is None else blocks,
        epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, seed=seed,
    )  # fmt: skip
    head_of_language(model, spec, out, as_json=json)


def mlm_pretrain(
    family: Annotated[str, typer.Option(help="model_type of transformers, such as roberta.")],
    texts: Text,
    out: opt.Out,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE of the config, such as hidden_size=256; repeat."),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder of one, or a SentencePiece .model file.")
    ] = None,
    vocabulary: Annotated[
        int, typer.Option(min=300, help="Tokens of a byte-level BPE trained on the text.")
    ] = 8192,
    epochs: opt.Epochs = 3,
    learning_rate: opt.LearningRate = 1e-3,
    batch_size: opt.BatchSize = 16,
    max_length: BlockLength = 128,
    blocks: Blocks = None,
    quick: Quick = False,
    seed: opt.Seed = 0,
    json: opt.Json = False,
) -> None:
    """Pre-train a small encoder of any family by masked tokens, on your text."""
    from compress_export.commands.study import pretrained
    from compress_export.studies.language import spec_of

    spec = spec_of(
        texts, max_length, 2048 if quick and blocks is None else blocks,
        epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, seed=seed,
    )  # fmt: skip
    pretrained(family, opt.settings(setting), tokenizer or vocabulary, spec, out, as_json=json)
