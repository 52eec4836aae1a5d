"""How much of a teacher's knowledge a student needs: one training for each share of it.

Liu et al. 2021 (arXiv 2106.05691, section 4): depth, length and width are cut one at a time, the
others left whole, and the metric is set against the share of hidden states that is left.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report.drawing import STYLE, TEACHER, VARIANT_COLOURS, svg
from compress.distill.knowledge import Knowledge
from compress.distill.store import StoreFacts

__all__ = ["DIMENSIONS", "Point", "Sweep", "share_kept", "utility_figure"]

Dimension = Literal["all", "depth", "length", "width", "none", "joint"]
DIMENSIONS: tuple[Dimension, ...] = ("depth", "length", "width")

WHOLE = Knowledge(depth=None, length=None, width=1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """Which shares to try.

    Attributes:
        depths, lengths, widths: One at a time, the others whole.
        joint: All three at once, if given.
    """

    depths: tuple[int, ...]
    lengths: tuple[int, ...]
    widths: tuple[float, ...]
    joint: Knowledge | None = None

    def points(self) -> Iterator[tuple[Dimension, Knowledge]]:
        """All hidden knowledge, logits alone, then each cut."""
        yield "all", WHOLE
        yield "none", Knowledge(depth=0)
        for depth in self.depths:
            yield "depth", replace(WHOLE, depth=depth)
        for length in self.lengths:
            yield "length", replace(WHOLE, length=length)
        for width in self.widths:
            yield "width", replace(WHOLE, width=width)
        if self.joint is not None:
            yield "joint", self.joint


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One training.

    Attributes:
        dimension: What was cut.
        knowledge: What was left.
        share: Of the hidden states' values, logits aside.
        bytes_per_example: In the store.
        metric: On the validation split.
    """

    dimension: Dimension
    knowledge: Knowledge
    share: float
    bytes_per_example: float
    metric: float


def share_kept(facts: StoreFacts, lengths: Sequence[int]) -> float:
    """Values kept over all values of all layers that a student of as many could learn from.

    Args:
        facts: Of a store.
        lengths: Tokens of its examples.
    """
    most = facts.knowledge.length or facts.longest
    tokens = sum(min(length, most) for length in lengths)
    values = len(facts.pairs) * tokens * facts.n_features
    return values / ((facts.n_student + 1) * sum(lengths) * facts.hidden_size)


def remembered(path: Path) -> dict[str, Any] | None:
    """What an earlier call has measured there."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def forget(folder: Path) -> None:
    """Drop a store that has served."""
    shutil.rmtree(folder, ignore_errors=True)


def utility_figure(points: Sequence[Point], metric: str, teacher: float) -> str:
    """The metric against the share of knowledge, a line for each dimension."""
    ends = [p for p in points if p.dimension == "all"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 3.6))
        axes = figure.subplots()
        for colour, dimension in zip(VARIANT_COLOURS, (*DIMENSIONS, "joint"), strict=False):
            own = [p for p in points if p.dimension == dimension]
            if not own:
                continue
            line = sorted([*own, *(ends if dimension != "joint" else [])], key=lambda p: p.share)
            axes.plot(
                [p.share for p in line], [p.metric for p in line], "o-", color=colour,
                linewidth=1.6, markersize=5, label=dimension,
            )  # fmt: skip
        for point in points:
            if point.dimension == "none":
                axes.axhline(point.metric, color=TEACHER, linewidth=1, linestyle="--")
                axes.annotate("logits alone", (1, point.metric), fontsize=9, ha="right")
        axes.axhline(teacher, color=TEACHER, linewidth=1)
        axes.annotate("teacher", (1, teacher), fontsize=9, ha="right", va="bottom")
        axes.set_xscale("log")
        axes.set_xlabel("share of the teacher's hidden states")
        axes.set_ylabel(metric)
        axes.legend(frameon=False, fontsize=9)
        return svg(figure)
