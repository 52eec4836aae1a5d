"""What a table of runs makes of their reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress_export.sweep.choose import best, parse_bound, rivals
from compress_export.sweep.findings import sweep_findings
from compress_export.sweep.ledger import Entry, Ledger, own_sweep
from compress_export.sweep.results import rows_of

PLACE = {"batch": 1, "sequence": 8}


def report(teacher_ms: float, speedup: float, mood: float = 1.0, device: str = "cpu") -> Any:
    """Of a run that was timed while everything took `mood` times as long; its student twice."""
    names = (f"{device}-fp32", f"{device}-half")

    def timed(contender: str, variant: str, ms: float) -> dict[str, Any]:
        return PLACE | {"contender": contender, "variant": variant, "p50_ms": mood * ms}

    ratio = {"ratio": speedup, "low": 0.9 * speedup, "high": 1.1 * speedup}
    size = {"encoder_parameters": 2, "encoder_macs": 2}
    kept = {"metric": "accuracy", "teacher": 0.8, "student": 0.7, "low": 0.8, "high": 1.0}
    return {
        "verdict": "pass",
        "reference": PLACE | {"variant": names[0]},
        "environment": {"processor": "one"},
        "latency": [
            timed("teacher", names[0], teacher_ms),
            *(timed("student", name, teacher_ms / speedup) for name in names),
        ],
        "speedups": [PLACE | {"contender": "student", "variant": name} | ratio for name in names],
        "accuracy": [{"variant": name, "retention": 0.9} | kept for name in names],
        "models": {"teacher": size, "student": size},
        "size_bytes": dict.fromkeys(names, 100),
    }


def ledger(folder: Path, **reports: Any) -> Ledger:
    """Runs of one teacher."""
    own_sweep(folder, "mark")
    found = Ledger(folder)
    for name, made in reports.items():
        (folder / "runs" / name).mkdir()
        (folder / "runs" / name / "report.json").write_text(json.dumps(made))
        recipe = {"model": "bert", "task": "sst2"}
        entry = Entry(run=name, key=name, labels={"way": name}, recipe=recipe, kind="one")
        found.put(found.finished(entry))
    return found


def steady(found: Ledger) -> dict[str, float]:
    return {row["run"]: row["steady_ms"] for row in rows_of(found) if row["reference"]}


def test_runs_are_compared_as_if_timed_at_one_moment(tmp_path: Path) -> None:
    """The faster student was timed at a slow moment."""
    found = ledger(tmp_path, slow=report(4, 2), fast=report(4, 4, mood=3), slower=report(4, 1.6))
    slow, fast, _ = (row for row in rows_of(found) if row["reference"])
    assert slow["p50_ms"] < fast["p50_ms"]
    assert steady(found) == pytest.approx({"slow": 2, "fast": 1, "slower": 2.5})
    tables = {table.name: table.rows for table in sweep_findings(found, ()).tables}
    assert {row["run"] for row in tables["pareto"]} == {"fast"}
    assert [row["faster"] for row in tables["adds"]] == pytest.approx([2, 0.8])


def test_a_run_counts_once_and_another_device_is_another_teacher(tmp_path: Path) -> None:
    runs = {"one": report(4, 2), "two": report(8, 2), "gpu": report(1, 2, device="cuda")}
    found = ledger(tmp_path, **runs)
    assert steady(found) == pytest.approx({"one": 3, "two": 3, "gpu": 0.5})


def test_gates_are_told_of_the_variant_that_they_look_at(tmp_path: Path) -> None:
    rows = sweep_findings(ledger(tmp_path, a=report(10.0, 2.0)), ()).tables[-1].rows
    assert {row["variant"]: row["gates"] for row in rows} == {"cpu-fp32": "pass", "cpu-half": None}


def test_without_a_speedup_the_latency_stands(tmp_path: Path) -> None:
    found = ledger(tmp_path, one=report(4, 2), two=report(12, 4) | {"speedups": []})
    assert steady(found) == pytest.approx({"one": 4, "two": 3})


def test_what_is_not_surely_worse_is_named(tmp_path: Path) -> None:
    rows = rows_of(ledger(tmp_path, slow=report(4, 2), fast=report(4, 4), near=report(4, 3.5)))
    own = [row for row in rows if row["reference"]]
    winner = best(own, [parse_bound("retention=0.8")])
    assert winner["run"] == "fast"
    assert [row["run"] for row in rivals(own, (), winner, "speedup")] == ["near"]
    assert rivals(own, (), winner, "size") == []
    alike = rivals(own, [parse_bound("speedup=3")], winner)
    assert [row["run"] for row in alike] == ["near"], "all keep as much, within the gate"
