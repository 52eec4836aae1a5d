"""Pictures of how fast contenders are: over workloads, as distributions, against accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report.drawing import INK, STYLE, TEACHER, look, svg

__all__ = [
    "distribution_figure",
    "latency_figure",
    "pareto_figure",
    "shown_workload",
    "undominated",
]

Row: TypeAlias = Mapping[str, Any]
Place: TypeAlias = tuple[str, str]


def latency_figure(report: Mapping[str, Any]) -> str:
    """Median latency with its interval, and throughput, of every contender by workload."""
    rows = report["latency"]
    if not rows:
        return ""
    workloads = sorted({_workload(row) for row in rows}, key=lambda w: (w[0] * w[1], w))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 3.6 + 0.16 * len(_contenders(rows))))
        left, right = figure.subplots(1, 2)
        for index, place in enumerate(_contenders(rows)):
            own = {_workload(row): row for row in rows if _place(row) == place}
            there = [(x, own[w]) for x, w in enumerate(workloads) if w in own]
            _draw_latency(left, there, index, " ".join(place))
            xs = [x for x, _ in there]
            right.plot(
                xs, [row["throughput_per_s"] for _, row in there], **look(index), markersize=4,
                linewidth=1.3,
            )  # fmt: skip
        for axes, name in ((left, "median latency, ms"), (right, "sequences a second")):
            axes.set_yscale("log")
            axes.set_title(name, fontsize=10.5, loc="left")
            axes.set_xticks(
                range(len(workloads)), [f"{b}×{s}" for b, s in workloads],
                rotation=40 if len(workloads) > 4 else 0,
            )  # fmt: skip
            axes.set_xlabel("batch × sequence")
            axes.margins(x=0.04)
        _legend_below(figure, left)
        return svg(figure)


def distribution_figure(report: Mapping[str, Any]) -> str:
    """Where the samples of one workload lie: 5 to 95 % thin, the middle half thick, the median."""
    rows = [row for row in _at(report, shown_workload(report)) if row["quantiles_ms"]]
    if not rows:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 0.9 + 0.32 * len(rows)))
        axes = figure.subplots()
        for y, row in enumerate(rows):
            q, colour = row["quantiles_ms"], look(y)["color"]
            axes.plot([q[1], q[-2]], [y, y], color=colour, linewidth=1.2)
            axes.plot([q[5], q[15]], [y, y], color=colour, linewidth=6, solid_capstyle="butt")
            axes.plot([q[10]], [y], "|", color=INK, markersize=11, markeredgewidth=1.6)
        axes.set_yticks(range(len(rows)), [" ".join(_place(row)) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("milliseconds (thin: 5 to 95 % of samples, thick: middle half, |: median)")
        return svg(figure)


def pareto_figure(report: Mapping[str, Any]) -> str:
    """Accuracy kept against median latency at one workload; what nothing beats is joined."""
    fast = {_place(row): row for row in _at(report, shown_workload(report))}
    kept = {_place(row): row for row in reversed(report["accuracy"])}
    order = [place for place in fast if place in kept or place[0] == report["anchor"]]
    if len(order) < 2 or not kept:
        return ""
    points = {place: _point(fast[place], kept.get(place)) for place in order}
    best = undominated(points.values())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 3.6 + 0.12 * len(order)))
        axes = figure.subplots()
        axes.plot(*zip(*best, strict=True), color=TEACHER, linewidth=1, zorder=1)
        for index, (place, (ms, share)) in enumerate(points.items()):
            row = kept.get(place)
            style = look(index)
            axes.errorbar(
                [ms], [share], marker=style["marker"], color=style["color"], markersize=7,
                yerr=None if row is None
                else [[share - 100 * row["low"]], [100 * row["high"] - share]],
                elinewidth=1, zorder=2, linestyle="none", label=" ".join(place),
            )  # fmt: skip
        axes.set_xlim(left=0)
        axes.set_xlabel("median latency, ms")
        axes.set_ylabel("% of the anchor's metric kept")
        _legend_below(figure, axes)
        return svg(figure)


def shown_workload(report: Mapping[str, Any]) -> tuple[int, int] | None:
    """The workload that pictures of one are about: the promised one, else the one in the middle."""
    if report["reference"] is not None:
        return report["reference"]["batch"], report["reference"]["sequence"]
    workloads = sorted({_workload(row) for row in report["latency"]}, key=lambda w: w[0] * w[1])
    return workloads[len(workloads) // 2] if workloads else None


def _draw_latency(axes: Any, there: Sequence[tuple[int, Row]], index: int, label: str) -> None:
    middle = [row["p50_ms"] for _, row in there]
    low = [max(m - row["low_ms"], 0) for m, (_, row) in zip(middle, there, strict=True)]
    ends = [row["p50_ms"] if row["high_ms"] is None else row["high_ms"] for _, row in there]
    high = [max(end - m, 0) for m, end in zip(middle, ends, strict=True)]
    axes.errorbar(
        [x for x, _ in there], middle, yerr=[low, high], **look(index), markersize=4,
        linewidth=1.3, elinewidth=1, label=label,
    )  # fmt: skip


def _legend_below(figure: Figure, axes: Any) -> None:
    handles, _ = axes.get_legend_handles_labels()
    figure.legend(handles=handles, frameon=False, loc="outside lower center", ncols=2, fontsize=9)
    figure.set_layout_engine("constrained")


def _point(fast: Row, kept: Row | None) -> tuple[float, float]:
    return fast["p50_ms"], 100.0 if kept is None else 100 * kept["retention"]


def undominated(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points (cost, worth) that no other is both cheaper and better than, from cheap to dear.

    Example:
        >>> undominated([(2.0, 90.0), (1.0, 80.0), (3.0, 85.0)])
        [(1.0, 80.0), (2.0, 90.0)]
    """
    best: list[tuple[float, float]] = []
    for ms, share in sorted(points, key=lambda p: (p[0], -p[1])):
        if not best or share > best[-1][1]:
            best.append((ms, share))
    return best


def _at(report: Mapping[str, Any], workload: tuple[int, int] | None) -> list[Row]:
    return [row for row in report["latency"] if _workload(row) == workload]


def _contenders(rows: Sequence[Row]) -> list[Place]:
    return list(dict.fromkeys(_place(row) for row in rows))


def _place(row: Row) -> Place:
    return row["contender"], row["variant"]


def _workload(row: Row) -> tuple[int, int]:
    return row["batch"], row["sequence"]
