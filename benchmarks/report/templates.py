"""Templates and style of what people read. Knows jinja2 and this folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

__all__ = ["render", "style"]

_TEMPLATES = Path(__file__).parent


def render(template: str, facts: Mapping[str, Any]) -> str:
    """A template of this folder filled in; `.html.jinja` escapes what it is given."""
    html = template.endswith(".html.jinja")
    return _environment(html=html).get_template(template).render(facts)


def style() -> str:
    """The style sheet of every page."""
    return (_TEMPLATES / "report.css").read_text(encoding="utf-8")


def _environment(*, html: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = lambda x: f"{100 * x:.1f} %"
    environment.filters["ms"] = _milliseconds
    environment.filters["millions"] = lambda x: f"{x / 1e6:,.1f} M"
    environment.filters["mib"] = lambda x: f"{x / 2**20:,.1f} MiB"
    environment.filters["gib"] = lambda x: f"{x / 2**30:,.1f} GiB"
    environment.filters["metric"] = lambda x: f"{x:.4f}"
    environment.filters["small"] = lambda x: f"{x:.1e}"
    return environment


def _milliseconds(value: float | None) -> str:
    """Hundredths below 100; a dash for what the sample does not carry."""
    if value is None:
        return "–"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"
