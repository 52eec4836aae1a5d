"""How figures changed over reports of the same thing: one page of lines and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report.drawing import STYLE, look, svg
from benchmarks.report.speed import shown_workload
from benchmarks.report.templates import render, style

__all__ = ["Line", "history_lines", "history_page"]

Report = Mapping[str, Any]
_QUANTITIES = {
    "kept": "% of the metric kept",
    "speedup": "speed-up over the anchor",
    "latency": "median latency, ms",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One quantity of one contender over the reports; `None` where a report lacks it.

    Attributes:
        quantity: `kept`, `speedup` or `latency`.
        contender: With its variant, and the metric where accuracy is meant.
        values: One a report.
        intervals: 95 %, one a report.
    """

    quantity: str
    contender: str
    values: tuple[float | None, ...]
    intervals: tuple[tuple[float, float] | None, ...]


def history_lines(reports: Sequence[Report]) -> list[Line]:
    """All that more than one report measured, in the order of the first that did."""
    workload = shown_workload(reports[-1])
    found: dict[tuple[str, str], list[tuple[float, float, float] | None]] = {}
    for index, report in enumerate(reports):
        for key, value in _values(report, workload).items():
            line = found.setdefault(key, [None] * len(reports))
            line[index] = value
    return [
        Line(
            quantity=quantity,
            contender=contender,
            values=tuple(None if v is None else v[0] for v in values),
            intervals=tuple(None if v is None else (v[1], v[2]) for v in values),
        )
        for (quantity, contender), values in found.items()
        if sum(v is not None for v in values) > 1
    ]


def history_page(reports: Sequence[Report], labels: Sequence[str]) -> str:
    """A self-contained page.

    Args:
        reports: From old to new.
        labels: Of each: commit or date.
    """
    lines = history_lines(reports)
    panels = [
        {"title": title, "picture": _draw([x for x in lines if x.quantity == name], labels, title)}
        for name, title in _QUANTITIES.items()
        if any(line.quantity == name for line in lines)
    ]
    return render(
        "history.html.jinja",
        {
            "style": style(),
            "panels": panels,
            "lines": lines,
            "labels": labels,
            "reports": reports,
            "workload": shown_workload(reports[-1]),
        },
    )


def _values(
    report: Report, workload: tuple[int, int] | None
) -> dict[tuple[str, str], tuple[float, float, float]]:
    found = {}
    for row in report["accuracy"]:
        name = f"{row['contender']} {row['variant']} {row['metric']}"
        kept = tuple(100 * row[k] for k in ("retention", "low", "high"))
        found["kept", name] = (kept[0], kept[1], kept[2])
    for section, quantity in (("speedups", "speedup"), ("latency", "latency")):
        for row in report[section]:
            if (row["batch"], row["sequence"]) != workload:
                continue
            name = f"{row['contender']} {row['variant']}"
            if quantity == "speedup":
                found[quantity, name] = (row["ratio"], row["low"], row["high"])
            else:
                high = row["p50_ms"] if row["high_ms"] is None else row["high_ms"]
                found[quantity, name] = (row["p50_ms"], row["low_ms"], high)
    return found


def _draw(lines: Sequence[Line], labels: Sequence[str], title: str) -> str:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 2.9 + 0.1 * len(lines)))
        axes = figure.subplots()
        for index, line in enumerate(lines, start=1):
            there = [(x, v) for x, v in enumerate(line.values) if v is not None]
            bands = [(x, i) for x, i in enumerate(line.intervals) if i is not None]
            own = look(index)
            axes.plot(*zip(*there, strict=True), **own, markersize=4, label=line.contender)
            axes.fill_between(
                [x for x, _ in bands], [i[0] for _, i in bands], [i[1] for _, i in bands],
                color=own["color"], alpha=0.15, linewidth=0,
            )  # fmt: skip
        step = max(1, len(labels) // 12)
        axes.set_xticks(range(0, len(labels), step), labels[::step], rotation=30, ha="right")
        axes.set_ylabel(title)
        figure.legend(frameon=False, loc="outside lower center", ncols=2, fontsize=9)
        figure.set_layout_engine("constrained")
        return svg(figure)
