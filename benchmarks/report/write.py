"""Write a report as `report.json`, `report.md` and `report.html`. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report.figures import accuracy_figure, kept_figure, latency_figure, training_figure
from benchmarks.report.templates import render, style

__all__ = ["headline", "write_report"]


def write_report(report: Mapping[str, Any], recipe: str, folder: Path) -> None:
    """Write the three files into `folder`.

    Args:
        report: What `build_report` gave.
        recipe: As the user wrote it.
        folder: Exists.
    """
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    facts = {"report": report, "recipe": recipe, "headline": headline(report)}
    (folder / "report.md").write_text(render("report.md.jinja", facts), encoding="utf-8")
    figures = {
        "kept": kept_figure(report),
        "accuracy": accuracy_figure(report),
        "latency": latency_figure(report),
        "training": training_figure(report),
        "style": style(),
    }
    page = render("report.html.jinja", facts | figures)
    (folder / "report.html").write_text(page, encoding="utf-8")


def headline(report: Mapping[str, Any]) -> dict[str, Any]:
    """The figures to read first, each as plain numbers: kept, faster, smaller."""
    reference = report["reference"]
    kept = [row for row in report["accuracy"] if row["variant"] == reference["variant"]]
    fast = [
        row
        for row in report["speedups"]
        if all(row[k] == reference[k] for k in ("variant", "batch", "sequence"))
    ]
    teacher, student = report["models"]["teacher"], report["models"]["student"]
    return {
        "kept": kept[0] if kept else None,
        "speedup": fast[0] if fast else None,
        "macs": student["encoder_macs"] / teacher["encoder_macs"],
        "encoder_parameters": student["encoder_parameters"] / teacher["encoder_parameters"],
        "parameters": student["parameters"] / teacher["parameters"],
    }
