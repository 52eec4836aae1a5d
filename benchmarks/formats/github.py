"""What GitHub shows: Markdown of a job's summary, and github-action-benchmark's custom JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.formats.figures import Figure, figures
from benchmarks.gate import Gate, Verdict, overall

__all__ = ["benchmark_action", "job_summary"]

_SIGNS: dict[Verdict, str] = {"pass": "✅", "fail": "❌", "inconclusive": "❔"}


def job_summary(title: str, gates: Sequence[Gate]) -> str:
    """One table of gates as Markdown, the verdict first."""
    verdict = overall(gates)
    lines = [f"## {_SIGNS[verdict]} {title}: {verdict}", ""]
    if not gates:
        return "\n".join([*lines, "Nothing was promised.", ""])
    lines += ["| gate | threshold | measured | 95 % interval | verdict |", "|---|---|---|---|---|"]
    for gate in gates:
        high = gate.to_dict()["high"]
        interval = f"{gate.low:.4g} to {'?' if high is None else f'{high:.4g}'}"
        name = gate.name.replace("|", "\\|")
        lines.append(
            f"| {name} | {gate.threshold:.4g} | {gate.value:.4g} | {interval} | "
            f"{_SIGNS[gate.verdict]} {gate.verdict} |"
        )
    return "\n".join([*lines, ""])


def benchmark_action(report: Mapping[str, Any], *, smaller: bool) -> str:
    """The custom JSON of github-action-benchmark, which takes one direction a file.

    Args:
        report: Of schema 1.
        smaller: Figures of which smaller is better (`customSmallerIsBetter`), or the others.
    """
    rows = [_row(figure) for figure in figures(report) if figure.smaller_is_better is smaller]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def _row(figure: Figure) -> dict[str, Any]:
    row: dict[str, Any] = {"name": figure.name, "unit": figure.unit, "value": figure.value}
    if figure.low is not None and figure.high is not None:
        row["range"] = f"± {(figure.high - figure.low) / 2:.3g}"
    return row
