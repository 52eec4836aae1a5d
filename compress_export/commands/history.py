"""`history`: figures over a folder of reports."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.report.history import Line, history_lines, history_page
from compress.errors import DataError
from compress_export.console import note, table
from compress_export.console import out as console
from compress_export.reports import read_report


def run(folder: Path, out: Path, *, as_json: bool) -> None:
    """Read all reports under `folder`, from old to new; write the page, print the newest change."""
    found = _read(folder)
    labels, reports = [label for label, _ in found], [report for _, report in found]
    lines = history_lines(reports)
    out.write_text(history_page(reports, labels), encoding="utf-8")
    if as_json:
        facts = {"reports": labels, "lines": [asdict(line) for line in lines]}
        console.print_json(json.dumps(facts))
        return
    rows = [[line.contender, line.quantity, *_change(line)] for line in lines]
    table(f"{len(reports)} reports", ["contender", "", "before", "now", "change"], rows, (0, 1))
    console.print(f"page: {out}", soft_wrap=True)


def _read(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Labels and reports by time; files that are no reports are told of and left out."""
    if not folder.is_dir():
        raise DataError(f"{folder} must be a folder of reports, found none; name one")
    found = []
    for file in sorted(folder.rglob("*.json")):
        if file.name != "report.json" and file.parent != folder:
            continue
        try:
            report = read_report(file)
        except DataError as error:
            note(f"left out: {error}")
            continue
        place = report["environment"]
        name = file.parent.name if file.name == "report.json" else file.stem
        label = (place.get("commit") or "")[:9] or name
        found.append((place.get("time") or "", str(file), label, report))
    if len(found) < 2:
        raise DataError(
            f"{folder} must hold two reports at least, found {len(found)}; keep the report.json of "
            "each commit there, under any name"
        )
    return [(label, report) for _, _, label, report in sorted(found, key=lambda entry: entry[:2])]


def _change(line: Line) -> list[str]:
    there = [value for value in line.values if value is not None]
    before, now = there[-2:]
    return [f"{before:.4g}", f"{now:.4g}", f"{now / before - 1:+.1%}" if before else "–"]
