"""What machines read is what they expect: parsed by their own parsers where there are any."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from benchmarks.formats import FORMATS, job_summary, write_as
from benchmarks.formats.figures import figures
from benchmarks.gate import at_least
from benchmarks.report.average import averages
from tests.benchmarks.reports import made_up

REPORT = made_up()
GATES = [
    at_least("retention", 0.98, value, low, high)
    for value, low, high in ((0.99, 0.985, 1.0), (0.9, 0.85, 0.95), (0.98, 0.96, 1.0))
]


def test_junit_has_a_case_a_gate_and_shows_doubt_as_an_error() -> None:
    report = REPORT | {"gates": [gate.to_dict() for gate in GATES]}
    root = ElementTree.fromstring(write_as(report, "junit"))
    assert root.attrib | {"tests": "3", "failures": "1", "errors": "1"} == root.attrib
    kinds = [[child.tag for child in case] for case in root.iter("testcase")]
    assert kinds == [[], ["failure"], ["error"]]


def test_openmetrics_parses_and_holds_every_figure() -> None:
    text = write_as(REPORT, "openmetrics")
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    found = {s.value for s in samples}
    assert len(samples) == len(list(figures(REPORT)))
    assert found == {figure.value for figure in figures(REPORT)}
    latency = next(s for s in samples if s.name == "compress_export_latency_seconds")
    assert latency.labels["contender"] == "teacher"


def test_bencher_has_latency_in_nanoseconds_with_bounds() -> None:
    found = json.loads(write_as(REPORT, "bencher"))
    row = REPORT["latency"][0]
    metric = found["teacher cpu-fp32 1 64"]["latency"]
    assert metric["value"] == pytest.approx(row["p50_ms"] * 1e6)
    assert metric["lower_value"] <= metric["value"] <= metric["upper_value"]


def test_the_benchmark_action_gets_each_direction_in_a_file_of_its_own() -> None:
    smaller = json.loads(write_as(REPORT, "github-benchmark-smaller"))
    bigger = json.loads(write_as(REPORT, "github-benchmark-bigger"))
    assert len(smaller) + len(bigger) == len(list(figures(REPORT)))
    assert {row["unit"] for row in smaller} == {"s"}
    assert all(set(row) >= {"name", "unit", "value"} for row in smaller + bigger)
    assert len({row["name"] for row in bigger}) == len(bigger)


def test_a_job_summary_is_a_table_with_the_verdict_first() -> None:
    lines = job_summary("a | b", GATES).splitlines()
    assert lines[0] == "## ❌ a | b: fail"
    assert len([line for line in lines if line.startswith("| retention")]) == 3
    assert "Nothing was promised" in job_summary("x", [])


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_report_is_valid_in_every_format(name: str) -> None:
    empty = REPORT | {key: [] for key in ("latency", "speedups", "accuracy", "memory", "load")}
    assert write_as(empty, name).endswith("\n")  # type: ignore[arg-type]


def test_the_average_is_over_tasks_and_its_interval_narrower_than_theirs() -> None:
    tasks = [
        REPORT | {"accuracy": [row | {"task": name} for row in REPORT["accuracy"]]}
        for name in ("sst2", "mrpc")
    ]
    one, two, mean = averages(tasks)
    assert (one["task"], two["task"], mean["task"]) == ("sst2", "mrpc", "average")
    assert mean["retention"] == pytest.approx((one["retention"] + two["retention"]) / 2)
    assert one["low"] < mean["low"] < mean["retention"] < mean["high"] < one["high"]
