"""Commands that write and check what serving stacks load; see `compress_export.cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress_export import options as opt

__all__ = ["add_to"]


def export(
    model: opt.Model,
    out: opt.Out,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="portable, portable-int8, portable-fp16, cpu-fp32, cpu-int8, cpu-int8-static, "
            "cuda-fp32 or cuda-fp16; repeat. Left out: portable, cpu-fp32 and cpu-int8, or what "
            "--serve takes."
        ),
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Text file to calibrate cpu-int8-static on.")
    ] = None,
    serve: Annotated[
        list[str] | None,
        typer.Option(
            help="Write a folder for a serving stack too: STACK or STACK@PRECISION; repeat. "
            "Stacks: onnxruntime, extensions, optimum, sentence-transformers, triton, mlserver, "
            "tei, infinity, transformers-js, openvino, native, browser."
        ),
    ] = None,
    json: opt.Json = False,
) -> None:
    """Export a stock or pruned checkpoint to ONNX, checked against torch."""
    from compress_export.commands.export import run

    run(model, out, variant or [], texts, serve or [], as_json=json)


def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle, or output folder of `run`.")],
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="STACK or STACK@PRECISION, as for `export --serve`; repeat. Left out: all that "
            "the bundle holds."
        ),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(help="Interpreter with the stack's packages; for Node a folder with "
                     "node_modules."),
    ] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Make what is missing, in the cache.")
    ] = False,
    edited: Annotated[
        bool, typer.Option("--edited", help="Take serving files that you changed as they are.")
    ] = False,
    json: opt.Json = False,
) -> None:  # fmt: skip
    """Load serving folders with the real thing and compare with the checkpoint.

    Runs the code in those folders: verify what you trust.
    """
    from compress_export.commands.verify import run

    run(bundle, target or [], python, edited=edited, install=install, as_json=json)


def push(
    bundle: Annotated[Path, typer.Argument(help="Bundle, checkpoint or output folder of `run`.")],
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the Hugging Face Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Where it is new.")] = False,
    message: Annotated[str, typer.Option(help="Of the commit.")] = "Upload by compress-export",
    with_texts: Annotated[
        bool, typer.Option("--with-texts", help="Publish the validation texts in the report too.")
    ] = False,
) -> None:
    """Upload a bundle with its model card to the Hub."""
    from compress_export.commands.push import run

    run(bundle, repository, private=private, message=message, with_texts=with_texts)


def add_to(app: typer.Typer) -> None:
    """Give these commands to the application."""
    for command in (export, verify, push):
        app.command()(command)
