"""Figures for dashboards: Bencher Metric Format, and OpenMetrics text for Prometheus."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from benchmarks.formats.figures import Figure, Kind, figures

__all__ = ["bencher", "openmetrics"]

_HELP: dict[Kind, str] = {
    "latency": "Median latency of one inference.",
    "throughput": "Sequences per second at the median latency.",
    "speedup": "Times as fast as the anchor of the same run.",
    "retention": "Share of the teacher's metric kept.",
    "memory": "Resident memory that a session adds while working.",
    "load": "Result of a load scenario.",
}
_SUFFIX: dict[str, str] = {"s": "_seconds", "1/s": "_per_second", "ratio": "_ratio",
                           "bytes": "_bytes"}  # fmt: skip
_NANO = 1e9


def bencher(report: Mapping[str, Any]) -> str:
    """Bencher Metric Format: benchmark, then measure, then value with bounds.

    Latency is in nanoseconds, as Bencher's own measure of that name.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for figure in figures(report):
        scale = _NANO if figure.unit == "s" else 1.0
        metric = {"value": figure.value * scale}
        if figure.low is not None and figure.high is not None:
            metric |= {"lower_value": figure.low * scale, "upper_value": figure.high * scale}
        place = " ".join(figure.labels.values())
        found.setdefault(place, {})[figure.kind] = metric
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def openmetrics(report: Mapping[str, Any]) -> str:
    """OpenMetrics text: a gauge a kind of figure, labels as the report names them."""
    families: dict[str, list[str]] = {}
    helps: dict[str, str] = {}
    for figure in figures(report):
        name = f"compress_export_{figure.kind}{_SUFFIX[figure.unit]}"
        helps[name] = _HELP[figure.kind]
        families.setdefault(name, []).append(f"{name}{_labels(figure)} {figure.value!r}")
    lines: list[str] = []
    for name, samples in families.items():
        lines += [f"# TYPE {name} gauge"]
        unit = name.rsplit("_", 1)[1]
        if unit in ("seconds", "bytes", "ratio"):
            lines += [f"# UNIT {name} {unit}"]
        lines += [f"# HELP {name} {helps[name]}", *samples]
    return "\n".join([*lines, "# EOF", ""])


def _labels(figure: Figure) -> str:
    pairs = (f'{name}="{_escaped(value)}"' for name, value in figure.labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
