"""What a study found: claims, tables and figures, as Markdown, JSON, SVG and Parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.report.drawing import INK
from benchmarks.report.templates import render

__all__ = [
    "Claim",
    "Column",
    "Figure",
    "Findings",
    "Row",
    "Table",
    "Verdict",
    "verdict_by",
    "verdict_of",
    "write_findings",
]

Row = Mapping[str, Any]
Verdict = Literal["held", "failed", "undecided"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What a paper says, and what became of it here.

    Attributes:
        source: The paper.
        says: Its claim.
        found: What was found, with figures and intervals.
        verdict: `held`, `failed`, or `undecided` where the figures do not tell.
    """

    source: str
    says: str
    found: str
    verdict: Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column to show.

    Attributes:
        key: In a row.
        header: Above it.
        format: As `format` takes it; `%` for shares.
    """

    key: str
    header: str
    format: str = ""

    def text(self, row: Row) -> str:
        """A row's cell; a dash where there is nothing."""
        value = row.get(self.key)
        if value is None:
            return "–"
        if self.format == "%":
            return f"{100 * value:.1f} %"
        return format(value, self.format)


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows of one kind: all go to Parquet, those of `shown` (by default all) to the report.

    Attributes:
        name: Of the file.
        title: Above it.
        rows: Plain data.
        columns: To show; none for a table that is data alone.
        shown: The rows to show, if not all.
        note: Below it.
    """

    name: str
    title: str
    rows: Sequence[Row]
    columns: Sequence[Column] = ()
    shown: Sequence[Row] | None = None
    note: str = ""

    def cells(self) -> list[list[str]]:
        """As text."""
        rows = self.rows if self.shown is None else self.shown
        return [[column.text(row) for column in self.columns] for row in rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A picture.

    Attributes:
        name: Of the file.
        caption: What it shows.
        svg: As `drawing.svg` gives it.
    """

    name: str
    caption: str
    svg: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """All that a study has to say.

    Attributes:
        study: Its name.
        title: Of the report.
        facts: Model, data, seeds and settings, as label and text.
        claims: In the order of importance.
        tables, figures: In the order of the report.
        limits: What the figures do not say.
    """

    study: str
    title: str
    facts: Mapping[str, str]
    claims: Sequence[Claim]
    tables: Sequence[Table]
    figures: Sequence[Figure] = ()
    limits: Sequence[str] = field(default=())


def verdict_of(held: Sequence[bool]) -> Verdict:
    """Of a claim that was looked at several times: held in all, failed in all, or neither.

    Example:
        >>> verdict_of([True, True]), verdict_of([True, False]), verdict_of([False])
        ('held', 'undecided', 'failed')
    """
    if held and all(held):
        return "held"
    return "undecided" if any(held) or not held else "failed"


def verdict_by(differences: Sequence[float], margin: float) -> Verdict:
    """Of a claim that one thing is better than another, looked at several times.

    Held where the mean is above `margin` and nothing is below `-margin`; failed where the mean is
    below `-margin`; undecided between, where what is seen may be chance.

    Example:
        >>> verdict_by([0.02, 0.03], 0.01), verdict_by([0.02, -0.02], 0.01)
        ('held', 'undecided')
    """
    if not differences:
        return "undecided"
    mean = sum(differences) / len(differences)
    if mean > margin and min(differences) >= -margin:
        return "held"
    return "failed" if mean < -margin else "undecided"


def write_findings(
    findings: Findings, environment: Mapping[str, Any], folder: Path, record: str = "study.json"
) -> None:
    """Write `report.md`, a JSON record, `figures/*.svg` and `data/*.parquet` into `folder`."""
    for name in ("figures", "data"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for figure in findings.figures:
        (folder / "figures" / f"{figure.name}.svg").write_text(_on_white(figure.svg), "utf-8")
    tables = [table for table in findings.tables if table.rows]
    for table in tables:
        pq.write_table(_columns(table.rows), folder / "data" / f"{table.name}.parquet")
    facts: dict[str, Any] = {"findings": findings, "tables": tables, "environment": environment}
    (folder / "report.md").write_text(render("study.md.jinja", facts), encoding="utf-8")
    written = {
        "schema": 1,
        "study": findings.study,
        "facts": dict(findings.facts),
        "claims": [asdict(claim) for claim in findings.claims],
        "environment": dict(environment),
    }
    (folder / record).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def _columns(rows: Sequence[Row]) -> pa.Table:
    """All columns that any row has, empty where a row has none."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])


def _on_white(svg: str) -> str:
    """A picture that stands for itself: a page's colours do not reach it."""
    start = svg.index(">") + 1
    paper = '<rect width="100%" height="100%" fill="white"/>'
    return (svg[:start] + paper + svg[start:]).replace("currentColor", INK)
