"""The report: one dictionary, written as JSON, Markdown and one self-contained HTML page."""

from __future__ import annotations

from benchmarks.report.build import SCHEMA, build_report
from benchmarks.report.write import write_report

__all__ = ["SCHEMA", "build_report", "write_report"]
