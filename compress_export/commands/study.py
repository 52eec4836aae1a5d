"""`study …`: prepare a folder, run one study, say where its report is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks.environment import environment
from benchmarks.report.findings import Findings, write_findings
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.loading import check_alone
from compress_export.studies.grid import Grid, own_folder
from compress_export.studies.language import LanguageSpec, pretrain, train_head
from compress_export.studies.question import Question


def run(
    name: str,
    question: Question,
    study: Callable[[Grid], Findings],
    jobs: int | None,
    *,
    as_json: bool,
) -> None:
    """Check the question, work the grid, write the report and print its claims."""
    check_alone(f"study {name}")
    question.check()
    with own_folder(question.out, name, question.model), progress() as report:
        grid = Grid(folder=question.out, jobs=Grid.jobs_for(jobs), progress=report)
        findings = study(grid)
    write_findings(findings, environment(), question.out)
    if as_json:
        console.print_json(json.dumps([asdict(claim) for claim in findings.claims]))
        return
    rows = [[c.verdict, c.source.split(",")[0], c.says] for c in findings.claims]
    table(findings.title, ["", "", "claim"], rows, left=(0, 1, 2))
    console.print(f"report: {question.out / 'report.md'}", soft_wrap=True)


def head_of_language(model: str, spec: LanguageSpec, out: Path, *, as_json: bool) -> None:
    """Train a head for masked tokens."""
    with own_folder(out, "mlm-head"), progress() as report:
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
    with own_folder(out, "mlm-pretrain"), progress() as report:
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
