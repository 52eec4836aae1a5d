"""The picture of growth: rows of measurements in, an SVG out."""

from __future__ import annotations

from typing import Any

from benchmarks.results.growth_shapes import CHANGES, SHAPES, TOKENS, changed

Points = list[tuple[float, float]]


def draw(rows: list[dict[str, Any]]) -> str:
    """Time and memory against parameters, and time against each of the other sizes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from benchmarks.report.drawing import STYLE, svg

    by_size = {
        "seconds": by_parameters(rows, "seconds"),
        "largest resident set, MiB": by_parameters(rows, "peak_mib"),
    }
    by_change = {change: lines for change in CHANGES if (lines := by_one(rows, change))}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 8.0 if by_change else 4.0))
        upper, *lower = figure.subfigures(1 + bool(by_change), 1, squeeze=False)[:, 0]
        panels = upper.subplots(1, 2)
        for axes, (name, lines) in zip(panels, by_size.items(), strict=True):
            lay(axes, lines, "parameters", name)
            axes.set(xscale="log", yscale="log")
        panels[1].set_title("dotted: in proportion", fontsize=9, loc="right")
        for part in lower:
            panels = part.subplots(1, len(by_change), squeeze=False)[0]
            for axes, (change, lines) in zip(panels, by_change.items(), strict=True):
                lay(axes, lines, change, "seconds")
                axes.set(xlim=(0, None), ylim=(0, None))
        figure.set_layout_engine("constrained")
        return svg(figure)


def lay(axes: Any, lines: dict[str, Points], across: str, up: str) -> None:
    """Draw lines, and in dots what would be in proportion to where each begins."""
    from benchmarks.report.drawing import TEACHER, look

    for index, (label, points) in enumerate(lines.items(), start=1):
        axes.plot(*zip(*points, strict=True), **look(index), label=label)
        (first, height), last = points[0], points[-1][0]
        straight = [height, height * last / first]
        axes.plot([first, last], straight, color=TEACHER, linewidth=0.8, linestyle=":")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.legend(frameon=False, fontsize=8)


def by_parameters(rows: list[dict[str, Any]], field: str) -> dict[str, Points]:
    """A line a step and calibration, over shapes that differ in nothing else."""
    lines: dict[str, Points] = {}
    for row in rows:
        if changed(row["shape"], "layers", 0) or row["step"] == "targets":
            continue
        tokens = changed(row["shape"], "tokens", TOKENS)
        told = "" if tokens == TOKENS else f", {tokens:,} tokens"
        lines.setdefault(f"{row['step']}{told}", []).append((row["parameters"], row[field]))
    return several(lines)


def by_one(rows: list[dict[str, Any]], change: str) -> dict[str, Points]:
    """A line a step and shape, over rows that differ in one size alone."""
    lines: dict[str, Points] = {}
    for row in rows:
        name, *given = row["shape"].split("@")
        if row["step"] == "load" or (change == "targets") != (row["step"] == "targets"):
            continue
        usual = {"tokens": TOKENS, "targets": 1, "layers": SHAPES[name]["num_hidden_layers"]}
        others = "@".join([name, *(g for g in given if not g.startswith(f"{change}="))])
        value = changed(row["shape"], change, usual[change])
        lines.setdefault(f"{row['step']}, {others}", []).append((value, row["seconds"]))
    return several(lines)


def several(lines: dict[str, Points]) -> dict[str, Points]:
    """Lines of two points and more, in their order."""
    return {label: sorted(points) for label, points in lines.items() if len(points) > 1}
