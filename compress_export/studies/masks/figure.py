"""The picture of `study masks`."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report.drawing import STYLE, look, svg
from compress_export.studies.grid import Row

__all__ = ["draw_masks"]


def draw_masks(points: Sequence[Row]) -> str:
    """A panel for each budget: methods from top to bottom, a dot a task."""
    places = list(dict.fromkeys((p["budget"], p["share"]) for p in points))
    tasks = list(dict.fromkeys(p["task"] for p in points))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * len(places), 4.2))
        panels = figure.subplots(1, len(places), squeeze=False)[0]
        for axes, (budget, share) in zip(panels, places, strict=True):
            own = [p for p in points if (p["budget"], p["share"]) == (budget, share)]
            methods = list(dict.fromkeys(p["method"] for p in own))[::-1]
            for index, task in enumerate(tasks, start=1):
                colour = look(index)["color"]
                for p in (p for p in own if p["task"] == task):
                    y = methods.index(p["method"]) + 0.22 * (index - (len(tasks) + 1) / 2)
                    axes.plot([100 * p["low"], 100 * p["high"]], [y, y], color=colour, linewidth=1)
                    axes.plot([100 * p["kept"]], [y], "o", color=colour, markersize=5)
                    axes.plot(
                        [100 * p["bare"]], [y], "o", markersize=5, markerfacecolor="none",
                        color=colour,
                    )  # fmt: skip
            axes.set_yticks(range(len(methods)), methods)
            axes.set_title(f"{share:.0%} of {budget}", fontsize=10.5, loc="left")
            axes.set_xlabel("% of the metric kept")
        for index, task in enumerate(tasks, start=1):
            panels[0].plot([], [], "o", color=look(index)["color"], label=task)
        figure.legend(frameon=False, loc="outside lower center", ncols=len(tasks))
        figure.set_layout_engine("constrained")
        return svg(figure)
