"""The frontier as Markdown, as a self-contained page, and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report.drawing import KEPT, STYLE, TEACHER, VARIANT_COLOURS, svg
from benchmarks.report.templates import render, style

__all__ = ["frontier_figure", "write_frontier"]


def write_frontier(frontier: Mapping[str, Any], folder: Path) -> None:
    """Write `frontier.json`, `frontier.md` and `frontier.html` into `folder`."""
    text = json.dumps(frontier, indent=1) + "\n"
    (folder / "frontier.json").write_text(text, encoding="utf-8")
    facts: dict[str, Any] = {"frontier": frontier}
    (folder / "frontier.md").write_text(render("frontier.md.jinja", facts), encoding="utf-8")
    facts |= {"picture": frontier_figure(frontier), "style": style()}
    (folder / "frontier.html").write_text(render("frontier.html.jinja", facts), encoding="utf-8")


def frontier_figure(frontier: Mapping[str, Any]) -> str:
    """What is kept against measured speed-up; predictions hollow beside what was measured.

    The axis is that of the students; what falls below it is named at its foot.
    """
    points: list[Mapping[str, Any]] = frontier["points"]
    variants = list(dict.fromkeys(p["variant"] for p in points))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 4.8))
        axes = figure.subplots()
        axes.set_ylim(*_limits(points))
        for index, (variant, colour) in enumerate(zip(variants, VARIANT_COLOURS, strict=False)):
            line = [p for p in points if p["variant"] == variant and p["kind"] == "student"]
            _draw_line(axes, line, colour, f"pruned, {variant}", 7 if index == 0 else -14)
            dense = [p for p in points if p["variant"] == variant and p["kind"] == "unpruned"]
            _draw_points(axes, dense, "s", colour, f"unpruned, {variant}")
        rest = [p for p in points if p["kind"] == "baseline"]
        _draw_points(axes, rest, "x", TEACHER, "baselines, about the same MACs, same repair")
        _name_points(axes, rest)
        _mark_knee(axes, frontier)
        axes.set_xlabel(
            f"measured speed-up over {frontier['reference']} unpruned (hollow: predicted)"
        )
        axes.set_ylabel(f"% of {frontier['metric']} kept")
        axes.legend(
            frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=5
        )
        axes.grid(visible=True, color="#eef1f3", linewidth=0.8)
        axes.set_axisbelow(True)
        return svg(figure)


def _limits(points: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """From a little below the lowest student to a little above the highest."""
    kept = [100 * p["retention"] for p in points if p["kind"] != "baseline"]
    low, high = min(kept), max(kept)
    room = max(0.35 * (high - low), 2.0)
    return low - room, high + room


def _draw_line(
    axes: Any, line: Sequence[Mapping[str, Any]], colour: str, label: str, shift: int
) -> None:
    kept = [100 * p["retention"] for p in line]
    axes.plot([p["speedup"] for p in line], kept, "-o", color=colour, label=label, markersize=6)
    predicted = [p["predicted_speedup"] for p in line]
    axes.plot(
        predicted,
        kept,
        "o",
        markersize=9,
        markerfacecolor="none",
        markeredgecolor=colour,
        alpha=0.6,
    )
    for point, y in zip(line, kept, strict=True):
        if "low" in point:
            ends = [100 * point["low"], 100 * point["high"]]
            axes.plot([point["speedup"]] * 2, ends, color=colour, alpha=0.25, linewidth=2)
        axes.annotate(
            point["name"], (point["speedup"], y), xytext=(4, shift), textcoords="offset points",
            fontsize=8.5, color=colour,
        )  # fmt: skip


def _draw_points(
    axes: Any, points: Sequence[Mapping[str, Any]], marker: str, colour: str, label: str
) -> None:
    if not points:
        return
    foot = axes.get_ylim()[0]
    axes.plot(
        [p["speedup"] for p in points],
        [max(100 * p["retention"], foot) for p in points],
        marker, color=colour, label=label, linestyle="none", markersize=7, clip_on=False,
    )  # fmt: skip


def _name_points(axes: Any, points: Sequence[Mapping[str, Any]]) -> None:
    foot = axes.get_ylim()[0]
    for point in points:
        kept = 100 * point["retention"]
        below = kept < foot
        name = point["name"].rpartition(",")[0] or point["name"]
        axes.annotate(
            f"{name}: {kept:.0f} %" if below else name,
            (point["speedup"], max(kept, foot)),
            xytext=(6, 5 if below else -3),
            textcoords="offset points",
            fontsize=7.5,
            color="#5d6b78",
        )


def _mark_knee(axes: Any, frontier: Mapping[str, Any]) -> None:
    for point in frontier["points"]:
        at_reference = point["variant"] == frontier["reference"]
        if point["kind"] == "student" and point["name"] == frontier["knee"] and at_reference:
            axes.annotate(
                "knee", (point["speedup"], 100 * point["retention"]), xytext=(0, -40),
                textcoords="offset points", ha="center", fontsize=9.5, color=KEPT,
                arrowprops={"arrowstyle": "-", "color": KEPT},
            )  # fmt: skip
