"""The picture of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report.drawing import STYLE, TEACHER, look, svg
from benchmarks.report.speed import undominated
from compress_export.studies.groups import grouped
from compress_export.sweep.results import Row

__all__ = ["draw_sweep"]


def draw_sweep(rows: Sequence[Row]) -> str:
    """A panel for each task and device: accuracy kept against median latency, a mark a run."""
    panels = grouped(rows, "task", "device")
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * min(len(panels), 3), 3.6 * -(-len(panels) // 3)))
        grid = figure.subplots(-(-len(panels) // 3), min(len(panels), 3), squeeze=False).flat
        for axes, (place, own) in zip(grid, panels, strict=False):
            points = [(row["steady_ms"], row["retention"]) for row in own]
            best = [(ms, 100 * kept) for ms, kept in undominated(points)]
            axes.plot(*zip(*best, strict=True), color=TEACHER, linewidth=1, zorder=1)
            for index, variant in enumerate(variants, start=1):
                there = [row for row in own if row["variant"] == variant]
                kept = [100 * row["retention"] for row in there]
                low = [k - 100 * row["retention_low"] for k, row in zip(kept, there, strict=True)]
                high = [100 * row["retention_high"] - k for k, row in zip(kept, there, strict=True)]
                style = look(index)
                axes.errorbar(
                    [row["steady_ms"] for row in there], kept, yerr=[low, high],
                    xerr=_speeds(there), linestyle="none", marker=style["marker"],
                    color=style["color"], elinewidth=0.7, markersize=5,
                )  # fmt: skip
            axes.set_title(f"{place['task']}\n{place['device']}", fontsize=9, loc="left")
            axes.set_xlabel("median latency at one moment, ms")
        first = figure.axes[0]
        first.set_ylabel("% of the metric kept")
        for index, variant in enumerate(variants, start=1):
            style = look(index)
            first.plot([], [], marker=style["marker"], color=style["color"], linestyle="none",
                       label=variant)  # fmt: skip
        for axes in figure.axes[len(panels) :]:
            axes.remove()
        figure.legend(frameon=False, loc="outside lower center", ncols=len(variants))
        figure.set_layout_engine("constrained")
        return svg(figure)


def _speeds(rows: Sequence[Row]) -> list[list[float]]:
    """How far each latency may lie from where it is drawn: below and above."""
    found = [
        (
            1 - row["speedup"] / (row["speedup_high"] or row["speedup"]),
            row["speedup"] / (row["speedup_low"] or row["speedup"]) - 1,
        )
        if row["speedup"]
        else (0.0, 0.0)
        for row in rows
    ]
    times = [row["steady_ms"] for row in rows]
    return [[ms * part[side] for ms, part in zip(times, found, strict=True)] for side in (0, 1)]
