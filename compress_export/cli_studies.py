"""`study …`: the papers' questions, one command each. Arguments in, one call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress_export import options as opt

__all__ = ["add_to"]

studies = typer.Typer(
    name="study",
    help="Ask the papers' questions of your own model: data, figures, and whether each claim held.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

StudyModel = Annotated[str, typer.Option("--model", help="Checkpoint folder, or a Hub id.")]
Tasks = Annotated[
    list[str], typer.Option("--task", "--tasks", help="GLUE task; repeat.", show_default=False)
]
Text = Annotated[Path, typer.Option(help="Text file, or a folder of .txt files.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="A part of data, grid and seeds: minutes on two cores.")
]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Processes; left out, one a core, four at most.")
]
Blocks = Annotated[int | None, typer.Option(min=1, help="Blocks of text, at most.")]
BlockLength = Annotated[int, typer.Option("--max-length", min=8, help="Tokens of a block.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    studies.command("mlm-head")(mlm_head)
    studies.command("mlm-pretrain")(mlm_pretrain)
    app.add_typer(studies)


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
