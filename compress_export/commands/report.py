"""`report`: a report, or several side by side, in another format."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.formats import FORMATS, write_as
from benchmarks.report.average import average_page
from benchmarks.report.write import html_page, markdown_page
from compress.errors import RecipeError
from compress_export.reports import read_recipe, read_report


def run(paths: list[Path], to: str, out: Path | None) -> None:
    """Write the reports at `paths` as `to`, to `out` or to stdout."""
    reports = [read_report(path) for path in paths]
    if len(reports) > 1:
        if to != "markdown":
            raise RecipeError(
                f"several reports go together as markdown, found --to {to!r}; use --to markdown"
            )
        text = average_page(reports)
    elif to == "html":
        text = html_page(reports[0], read_recipe(paths[0]))
    elif to == "markdown":
        text = markdown_page(reports[0], read_recipe(paths[0]))
    else:
        known = {name: name for name in FORMATS}
        if to not in known:
            raise RecipeError(
                f"--to must be html, markdown, {', '.join(FORMATS)}, found {to!r}; choose one"
            )
        text = write_as(reports[0], known[to])
    if out is None:
        sys.stdout.write(text)
        return
    out.write_text(text, encoding="utf-8")
