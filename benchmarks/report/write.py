"""Write a report as `report.json`, `report.md` and `report.html`. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report.figures import (
    accuracy_figure,
    importance_figure,
    kept_figure,
    training_figure,
)
from benchmarks.report.speed import (
    distribution_figure,
    latency_figure,
    pareto_figure,
    shown_workload,
)
from benchmarks.report.templates import render, style

__all__ = ["headline", "html_page", "markdown_page", "write_report"]

_FIGURES = {
    "pareto": pareto_figure,
    "accuracy": accuracy_figure,
    "latency": latency_figure,
    "distribution": distribution_figure,
    "kept": kept_figure,
    "importance": importance_figure,
    "training": training_figure,
}


def write_report(report: Mapping[str, Any], recipe: str | None, folder: Path) -> None:
    """Write the three files into `folder`.

    Args:
        report: What `build_report` or `bench_report` gave.
        recipe: As the user wrote it, if there was one.
        folder: Exists.
    """
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(markdown_page(report, recipe), encoding="utf-8")
    (folder / "report.html").write_text(html_page(report, recipe), encoding="utf-8")


def markdown_page(report: Mapping[str, Any], recipe: str | None = None) -> str:
    """The report as Markdown."""
    return render("report.md.jinja", _facts(report, recipe))


def html_page(report: Mapping[str, Any], recipe: str | None = None) -> str:
    """The report as one self-contained page."""
    figures = {name: draw(report) for name, draw in _FIGURES.items()}
    facts = {"figures": figures, "style": style(), "shown": shown_workload(report)}
    return render("report.html.jinja", _facts(report, recipe) | facts)


def headline(report: Mapping[str, Any]) -> dict[str, Any]:
    """The figures to read first, each as plain numbers: kept, faster, smaller; or nothing."""
    reference, models = report["reference"], report["models"]
    if reference is None or models is None:
        return {"kept": None, "speedup": None, "macs": None}
    kept = [row for row in report["accuracy"] if row["variant"] == reference["variant"]]
    fast = [
        row
        for row in report["speedups"]
        if all(row[k] == reference[k] for k in ("variant", "batch", "sequence"))
    ]
    teacher, student = models["teacher"], models["student"]
    return {
        "kept": kept[0] if kept else None,
        "speedup": fast[0] if fast else None,
        "macs": student["encoder_macs"] / teacher["encoder_macs"],
        "encoder_parameters": student["encoder_parameters"] / teacher["encoder_parameters"],
        "parameters": student["parameters"] / teacher["parameters"],
    }


def _facts(report: Mapping[str, Any], recipe: str | None) -> dict[str, Any]:
    return {"report": report, "recipe": recipe, "headline": headline(report)}
