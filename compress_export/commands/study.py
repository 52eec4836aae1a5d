"""`study …`: prepare a folder, run one study, say where its report is."""

from __future__ import annotations

import json
from pathlib import Path

from compress_export.console import out as console
from compress_export.console import progress
from compress_export.studies.grid import own_folder
from compress_export.studies.language import LanguageSpec, pretrain, train_head


def head_of_language(model: str, spec: LanguageSpec, out: Path, *, as_json: bool) -> None:
    """Train a head for masked tokens."""
    own_folder(out, "mlm-head")
    with progress() as report:
        figures = train_head(model, spec, out, report)
    _tell_language(figures, out, as_json)


def pretrained(
    family: str,
    settings: dict[str, object],
    tokenizer: str | int,
    spec: LanguageSpec,
    out: Path,
    *,
    as_json: bool,
) -> None:
    """Pre-train a small encoder."""
    own_folder(out, "mlm-pretrain")
    with progress() as report:
        figures = pretrain(family, settings, tokenizer, spec, out, report)
    _tell_language(figures, out, as_json)


def _tell_language(figures: dict[str, float], out: Path, as_json: bool) -> None:
    if as_json:
        console.print_json(json.dumps(figures))
        return
    console.print(
        f"{figures['after']:.3f} nats a masked token on held-out text "
        f"({figures['before']:.3f} before, {figures['unigram']:.3f} by frequencies alone)",
        soft_wrap=True,
    )
    console.print(f"checkpoint: {out / 'checkpoint'}", soft_wrap=True)
    console.print(f"report: {out / 'report.md'}", soft_wrap=True)
