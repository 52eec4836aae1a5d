"""How every picture of ours is drawn: colours, type, and SVG as text."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure

__all__ = ["GONE", "INK", "KEPT", "STYLE", "TEACHER", "VARIANT_COLOURS", "svg"]

KEPT, GONE, TEACHER, INK = "#2a6f97", "#e4e9ed", "#8a97a3", "#22303c"
VARIANT_COLOURS = ("#2a6f97", "#e07a5f", "#3d9970", "#9467bd", "#b8860b")
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "compress-export",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#c3ccd4",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def svg(figure: Figure) -> str:
    """The figure as SVG text, the same for the same figure."""
    figure.set_layout_engine("tight")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
