"""How every picture of ours is drawn: colours, type, and SVG as text."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure

__all__ = ["GONE", "INK", "KEPT", "STYLE", "TEACHER", "VARIANT_COLOURS", "look", "svg"]

KEPT, GONE, TEACHER, INK = "#2a7fb0", "#aab6c055", "#8a97a3", "#22303c"
VARIANT_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which the colour-blind tell apart; shapes and dashes tell the same again."""
_MARKERS = "osD^vPX"
_DASHES = ("-", "--", ":", "-.")
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "compress-export",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8a97a3",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def svg(figure: Figure) -> str:
    """The figure as SVG text, the same for the same figure."""
    if figure.get_layout_engine() is None:
        figure.set_layout_engine("tight")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    # What is drawn in ink takes the page's own colour, so that it reads on light and on dark.
    return text[text.index("<svg") :].replace(INK, "currentColor")


def look(index: int) -> dict[str, Any]:
    """Colour, marker and dashes of the contender of that place; the base is grey."""
    if index == 0:
        return {"color": TEACHER, "marker": "o", "linestyle": "-"}
    return {
        "color": VARIANT_COLOURS[(index - 1) % len(VARIANT_COLOURS)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": _DASHES[(index - 1) // len(VARIANT_COLOURS) % len(_DASHES)],
    }
