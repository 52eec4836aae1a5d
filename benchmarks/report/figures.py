"""The report's pictures, as SVG text. Knows the report's fields and matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks.report.drawing import GONE, INK, KEPT, STYLE, TEACHER, VARIANT_COLOURS, svg

__all__ = ["accuracy_figure", "importance_figure", "kept_figure", "training_figure"]


def kept_figure(report: Mapping[str, Any]) -> str:
    """What is left of each layer: a square a head, a bar for the FFN's width."""
    kept = report["kept"]
    if not kept:
        return ""
    most_heads = max(row["n_heads"] for row in kept)
    height = 0.9 + 0.36 * len(kept)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, height))
        heads, neurons = figure.subplots(1, 2, width_ratios=(3, 2))
        for row in kept:
            _draw_heads(heads, row)
            _draw_neurons(neurons, row)
        heads.set_xlim(-0.6, most_heads - 0.4)
        heads.set_xticks(range(most_heads))
        heads.set_xlabel("attention heads (filled: kept)")
        neurons.set_xlim(0, 1.32)
        neurons.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        neurons.set_xlabel("FFN neurons kept")
        for axes in (heads, neurons):
            axes.set_ylim(len(kept) - 0.4, -0.6)
            axes.set_yticks(range(len(kept)), [f"layer {row['layer']}" for row in kept])
            axes.tick_params(length=0)
        neurons.set_yticks([])
        return svg(figure)


def accuracy_figure(report: Mapping[str, Any]) -> str:
    """Share of the teacher's metric that each variant keeps, with its 95 % interval."""
    rows = report["accuracy"]
    if not rows:
        return ""
    gate = next((g["threshold"] for g in report["gates"] if g["name"] == "retention"), None)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 1.0 + 0.34 * len(rows)))
        axes = figure.subplots()
        for y, row in enumerate(rows):
            axes.plot([100 * row["low"], 100 * row["high"]], [y, y], color=KEPT, linewidth=2)
            axes.plot([100 * row["retention"]], [y], "o", color=KEPT, markersize=7)
        axes.axvline(100, color=TEACHER, linewidth=1)
        if gate is not None:
            axes.axvline(100 * gate, color="#c0392b", linewidth=1, linestyle="--")
            axes.annotate(
                "gate", (100 * gate, -0.75), color="#c0392b", fontsize=9, ha="right",
                annotation_clip=False,
            )  # fmt: skip
        labels = [f"{row['contender']} {row['variant']} · {row['metric']}" for row in rows]
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.5, -0.8)
        axes.set_xlabel("% of the teacher's value kept (dot: estimate, line: 95 % interval)")
        axes.tick_params(axis="y", length=0)
        return svg(figure)


def importance_figure(report: Mapping[str, Any]) -> str:
    """How much each of the teacher's heads matters: a square a head, darker matters more."""
    if report["importance"] is None:
        return ""
    rows = report["importance"]["heads"]
    width = max(map(len, rows), default=0)
    if not width:
        return ""
    values = np.full((len(rows), width), np.nan)
    for place, row in zip(values, rows, strict=True):
        place[: len(row)] = row
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 0.9 + 0.36 * len(rows)))
        axes = figure.subplots()
        squares = axes.pcolormesh(
            values, cmap="cividis_r", vmin=0, vmax=1, edgecolors="white", linewidth=1.5
        )
        axes.invert_yaxis()
        axes.set_yticks(np.arange(len(rows)) + 0.5, [f"layer {i}" for i in range(len(rows))])
        axes.set_xticks(np.arange(width) + 0.5, [str(i) for i in range(width)])
        axes.set_xlabel("attention heads of the teacher")
        axes.tick_params(length=0)
        figure.colorbar(squares, ax=axes, label="importance, largest 1", aspect=12)
        return svg(figure)


def _draw_heads(axes: Any, row: Mapping[str, Any]) -> None:
    for head in range(row["n_heads"]):
        colour = KEPT if head in row["heads"] else GONE
        square = mpl.patches.Rectangle((head - 0.4, row["layer"] - 0.33), 0.8, 0.66, color=colour)
        axes.add_patch(square)


def _draw_neurons(axes: Any, row: Mapping[str, Any]) -> None:
    share = row["neurons"] / row["ffn_width"] if row["ffn_width"] else 0
    axes.barh(row["layer"], 1, 0.62, color=GONE)
    axes.barh(row["layer"], share, 0.62, color=KEPT)
    label = "layer dropped" if row["dropped"] else f"{row['neurons']} / {row['ffn_width']}"
    axes.text(1.03, row["layer"], label, va="center", fontsize=9)


def training_figure(report: Mapping[str, Any]) -> str:
    """The loss and its parts by epoch; the metric beside them where training looked at one."""
    training = report["training"]
    if training is None:
        return ""
    curve = [row for row in training["curve"] if "loss" in row]
    looks = [row for row in training["curve"] if "metric" in row]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 2.9))
        axes = figure.subplots(1, 2 if looks else 1, squeeze=False)[0]
        names = [name for name in curve[0] if name.startswith("loss")] if curve else []
        colours = (INK, *VARIANT_COLOURS)
        for i, name in enumerate(names):
            x, y = zip(*((row["epoch"], row[name]) for row in curve), strict=True)
            label = name.removeprefix("loss_") if "_" in name else "loss, weighted sum"
            axes[0].plot(x, y, color=colours[i % len(colours)], linewidth=1.5, label=label)
        axes[0].set_xlabel("epoch")
        axes[0].set_ylabel("loss")
        axes[0].set_yscale("log")
        axes[0].legend(
            frameon=False,
            fontsize=9,
            ncols=4,
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
        )
        if looks:
            x, y = zip(*((row["epoch"], row["metric"]) for row in looks), strict=True)
            axes[1].plot(x, y, "o-", color=KEPT, linewidth=1.5, markersize=4)
            axes[1].set_xlabel("epoch")
            axes[1].set_ylabel("metric, held out")
        return svg(figure)
