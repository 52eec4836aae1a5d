"""Pictures of the study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from benchmarks.report.drawing import STYLE, TEACHER, look, svg
from benchmarks.report.findings import Figure
from compress_export.studies.grid import Row
from compress_export.studies.heads.facts import HeadFacts

__all__ = ["head_figures"]

_CAPTIONS = {
    "importance": "Importance of each head, divided by its layer's norm; rows are layers, from the "
    "bottom up.",
    "curves": "What is left as heads are masked, nothing retrained. Chance: the mean, and all "
    "draws. The last panel is the loss of masked tokens, where lower is better.",
    "deduction": "Heads removed by their importance in pre-training, then fine-tuned: what the "
    "task keeps against what the loss of masked tokens rose by before. Rings: the knee.",
}


def head_figures(facts: HeadFacts, points: Sequence[Row]) -> list[Figure]:
    """Importances, curves, and the acceptable deduction where there is one."""
    drawn = {"importance": _draw_importance(facts), "curves": _draw_curves(facts)}
    if points:
        drawn["deduction"] = _draw_deduction(points)
    return [Figure(name=n, caption=_CAPTIONS[n], svg=picture) for n, picture in drawn.items()]


def _draw_importance(facts: HeadFacts) -> str:
    names = [n for n in ("mlm", *facts.tasks) if any(r["of"] == n for r in facts.importances)]
    n_layers, widest = facts.shape.n_layers, max(facts.shape.n_heads)
    with mpl.rc_context(STYLE):
        figure = Canvas(figsize=(2.7 * len(names) + 0.6, 1.2 + 0.28 * n_layers))
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            grid = np.full((n_layers, widest), np.nan)
            for row in facts.importances:
                if row["of"] == name:
                    grid[row["layer"], row["head"]] = row["score"]
            norms = np.sqrt(np.nansum(grid**2, axis=1, keepdims=True)) + 1e-20
            axes.imshow(grid / norms, origin="lower", cmap="Blues", aspect="auto", vmin=0)
            axes.set_title(name, fontsize=10.5, loc="left")
            axes.set_xlabel("head")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(integer=True))
        panels[0].set_ylabel("layer")
        return svg(figure)


def _draw_curves(facts: HeadFacts) -> str:
    names = [*facts.tasks, *(["mlm"] if facts.masked else [])]
    with mpl.rc_context(STYLE):
        figure = Canvas(figsize=(3.3 * len(names), 3.6))
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            _draw_panel(axes, facts, name)
        panels[0].set_ylabel("kept, %")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=3)
        figure.set_layout_engine("constrained")
        return svg(figure)


def _draw_panel(axes: Any, facts: HeadFacts, name: str) -> None:
    key, scale = ("metric", 1.0) if name == "mlm" else ("retention", 100.0)
    for index, order in enumerate(facts.orders(name), start=1):
        curve = facts.curve(name, order)
        x, y = [100 * p["share"] for p in curve], [scale * p[key] for p in curve]
        own = look(0) if order == "chance" else look(index)
        axes.plot(x, y, **own, markersize=3.5, linewidth=1.5, label=order)
    rows = [r for r in facts.curves if r["of"] == name and r["order"] == "chance"]
    for seed in sorted({r["seed"] for r in rows}):
        own_rows = [r for r in rows if r["seed"] == seed]
        x = [100 * r["share"] for r in own_rows]
        axes.plot(x, [scale * r[key] for r in own_rows], color=TEACHER, linewidth=0.5)
    axes.set_title(name, fontsize=10.5, loc="left")
    axes.set_xlabel("% of heads masked")
    if name == "mlm":
        axes.set_ylabel("nats a masked token")


def _draw_deduction(points: Sequence[Row]) -> str:
    with mpl.rc_context(STYLE):
        figure = Canvas(figsize=(7.4, 3.6))
        axes = figure.subplots()
        for index, task in enumerate(dict.fromkeys(p["task"] for p in points), start=1):
            own = sorted((p for p in points if p["task"] == task), key=lambda p: p["rise"])
            x, y = [p["rise"] for p in own], [100 * p["kept"] for p in own]
            axes.plot(x, y, **look(index), markersize=5, linewidth=1.6, label=task)
            knees = [p for p in own if p["knee"]]
            axes.plot(
                [p["rise"] for p in knees], [100 * p["kept"] for p in knees], "o", markersize=13,
                markerfacecolor="none", color=look(index)["color"],
            )  # fmt: skip
        axes.set_xlabel("rise of the loss of masked tokens before fine-tuning, nats")
        axes.set_ylabel("kept after it, %")
        axes.legend(frameon=False, fontsize=9)
        return svg(figure)
