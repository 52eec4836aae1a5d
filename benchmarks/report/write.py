"""Write a report as `report.json`, `report.md` and `report.html`. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from benchmarks.report.figures import accuracy_figure, kept_figure, latency_figure

__all__ = ["headline", "write_report"]

_TEMPLATES = Path(__file__).parent


def write_report(report: Mapping[str, Any], recipe: str, folder: Path) -> None:
    """Write the three files into `folder`.

    Args:
        report: What `build_report` gave.
        recipe: As the user wrote it.
        folder: Exists.
    """
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    facts = {"report": report, "recipe": recipe, "headline": headline(report)}
    markdown = _environment(False).get_template("report.md.jinja").render(facts)
    (folder / "report.md").write_text(markdown, encoding="utf-8")
    figures = {
        "kept": kept_figure(report),
        "accuracy": accuracy_figure(report),
        "latency": latency_figure(report),
        "style": (_TEMPLATES / "report.css").read_text(encoding="utf-8"),
    }
    page = _environment(True).get_template("report.html.jinja").render(facts | figures)
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


def _environment(html: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = lambda x: f"{100 * x:.1f} %"
    environment.filters["ms"] = lambda x: f"{x:.2f}" if x < 100 else f"{x:.0f}"
    environment.filters["millions"] = lambda x: f"{x / 1e6:,.1f} M"
    environment.filters["mib"] = lambda x: f"{x / 2**20:,.1f} MiB"
    environment.filters["gib"] = lambda x: f"{x / 2**30:,.1f} GiB"
    environment.filters["metric"] = lambda x: f"{x:.4f}"
    environment.filters["small"] = lambda x: f"{x:.1e}"
    return environment
