"""Pictures of a latency table: what attention and FFN cost by size, under each workload."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks.report.drawing import GONE, KEPT, STYLE, VARIANT_COLOURS, svg
from compress.plan.latency_table import LatencyCurve, LatencyTable

__all__ = ["table_figure"]

STEP = VARIANT_COLOURS[1]


def table_figure(table: LatencyTable) -> str:
    """One row a workload: attention by heads, FFN by neurons; flat stretches grey, steps red."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 2.9 * len(table.points)))
        rows = figure.subplots(len(table.points), 2, squeeze=False)
        for (left, right), point in zip(rows, table.points, strict=True):
            _draw(left, point.attention, "heads")
            _draw(right, point.ffn, "FFN neurons")
            left.set_title(f"attention, {point.workload} tokens", fontsize=10.5, loc="left")
            right.set_title(f"FFN, {point.workload} tokens", fontsize=10.5, loc="left")
            left.set_ylabel("ms per layer")
        return svg(figure)


def _draw(axes: Any, curve: LatencyCurve, unit: str) -> None:
    sizes = np.arange(curve.sizes[-1] + 1, dtype=float)
    for span in curve.spans:
        colour, alpha = (GONE, 0.9) if span.kind == "flat" else (STEP, 0.2)
        axes.axvspan(span.low, span.high, color=colour, alpha=alpha, linewidth=0)
    axes.plot(sizes, curve.at(sizes), color=KEPT, linewidth=1.8)
    axes.plot(curve.sizes, curve.milliseconds, "o", color=KEPT, markersize=4)
    axes.set_xlabel(unit)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, curve.sizes[-1])
