"""A report in the formats that CI services and dashboards read; one function a format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, get_args

from benchmarks.formats.github import benchmark_action, job_summary
from benchmarks.formats.junit import junit
from benchmarks.formats.metrics import bencher, openmetrics

__all__ = ["FORMATS", "FormatName", "job_summary", "junit", "write_as"]

FormatName: TypeAlias = Literal[
    "junit", "github-benchmark-smaller", "github-benchmark-bigger", "bencher", "openmetrics"
]
FORMATS: tuple[FormatName, ...] = get_args(FormatName)

_WRITERS: dict[FormatName, Callable[[Mapping[str, Any]], str]] = {
    "junit": junit,
    "github-benchmark-smaller": lambda report: benchmark_action(report, smaller=True),
    "github-benchmark-bigger": lambda report: benchmark_action(report, smaller=False),
    "bencher": bencher,
    "openmetrics": openmetrics,
}


def write_as(report: Mapping[str, Any], name: FormatName) -> str:
    """A report of schema 1 as text of that format."""
    return _WRITERS[name](report)
