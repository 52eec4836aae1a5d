"""From how a command ended to one line on stderr and an exit status.

0 it worked and the gates hold · 1 a gate or a verification failed · 2 the input was wrong ·
3 inconclusive · 70 our bug · 130 interrupted.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence

import typer

__all__ = ["STATUS", "run_app"]

STATUS = {"pass": 0, "fail": 1, "inconclusive": 3}
"""Of a verdict on gates."""

INTERRUPTED = 130
WRITTEN = (0, 1, 3)
"""Statuses after which there is an output: gates are judged of what stands."""

# typer raises click's errors, its own copy of them or click's by version; this is their base.
_USAGE_ERROR: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
_INTERRUPTED = (
    "interrupted; nothing is left half-written; `run`, `demo` and `sweep` go on from the last "
    "whole stage when called again, trainings, stores and studies from their last whole part, "
    "other commands start anew"
)


def run_app(app: typer.Typer, arguments: list[str]) -> int:
    """Run the command line; its exit status."""
    try:
        status = _run(app, arguments)
        return _fail(_INTERRUPTED, status) if status == INTERRUPTED else status
    except _USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a group alone, such as `study`
            typer.echo(_usage_message(error))
            return 0
        return _fail(_usage_message(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(_INTERRUPTED, INTERRUPTED)
    except Exception as error:  # the outermost edge: every failure becomes one line and a status
        if "--debug" in arguments:
            raise
        return _status_of(error, arguments)


def _run(app: typer.Typer, arguments: list[str]) -> int:
    """Run a command, with what it reads and writes under URLs copied from and to there."""
    if not any("://" in argument for argument in arguments):
        return int(app(args=arguments or ["--help"], standalone_mode=False) or 0)
    from compress.errors import VerificationError
    from compress_export.remote import localised

    with localised(arguments) as (local, sent):
        try:
            status = int(app(args=local, standalone_mode=False) or 0)
        except VerificationError:  # what was written before it stands
            sent.send()
            raise
        if status in WRITTEN:
            sent.send()
        return status


def _usage_message(error: Exception) -> str:
    format_message = getattr(error, "format_message", None)
    return str(format_message()) if format_message else str(error)


def _status_of(error: Exception, arguments: Sequence[str]) -> int:
    from compress.errors import ToolchainError, VerificationError

    if isinstance(error, ToolchainError):
        status = 1 if isinstance(error, VerificationError) else 2
        return _fail(_as_typed(_in_own_words(str(error)), arguments), status)
    if _is_full_disk(error):
        return _fail(f"the disk is full ({error}); free some space and run the command again", 2)
    if isinstance(error, OSError):
        return _fail(f"a file could not be read or written: {error}; check path and rights", 2)
    return _fail(
        f"this is a bug of compress-export: {type(error).__name__}: {error}; "
        "run again with `compress-export --debug …` and report the traceback",
        70,
    )


_OWN_WORDS = {
    "calibration_examples": "prune.calibration_examples",
    "changes": "--set",
    "depth": "--depth",
    "force_table": "target.force_table",
    "install": "--install",
    "layout": "prune.layout",
    "drop": "prune.drop_layers",
    "feature_fraction": "--width",
    "max_tokens": "--length",
    "python": "--python",
    "units": "prune.units",
    "regression": "task.regression",
}
"""A recipe's field or an option, by the name of a library's argument."""


def _in_own_words(message: str) -> str:
    """A library's message with the names of its arguments, in backticks, as a user gives them.

    Example:
        >>> _in_own_words("let more go (`units`)")
        'let more go (prune.units)'
    """
    return re.sub(r"`(\w+)`", lambda m: _OWN_WORDS.get(m[1], m[0]), message)


def _as_typed(message: str, arguments: Sequence[str]) -> str:
    """A message about a recipe's field, of the option that it was typed as.

    Example:
        >>> _as_typed("recipe field 'target.speedup': too small", ["prune", "--speedup", "0"])
        '--speedup: too small'
        >>> _as_typed("recipe field 'task.label' is required", ["prune", "--task", "own.yaml"])
        "recipe field 'task.label' is required"
    """
    typed = {argument.partition("=")[0] for argument in arguments}

    def named(field: re.Match[str]) -> str:
        path = [part for part in field[1].split(".") if not part.isdigit()]
        option = f"--{path[-1].replace('_', '-')}" if path else ""
        return option if option in typed and path[0] != "task" else field[0]

    return re.sub(r"recipe field '([\w.]+)'", named, message)


def _is_full_disk(error: Exception) -> bool:
    """Whether nothing more can be written; safetensors tells it by text only."""
    full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    if isinstance(error, OSError):
        return error.errno in full
    return any(f"os error {number}" in str(error) for number in full)


def _fail(message: str, status: int) -> int:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    return status
