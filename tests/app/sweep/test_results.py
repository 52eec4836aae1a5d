"""What a table of runs makes of their reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress_export.sweep.findings import sweep_findings
from compress_export.sweep.ledger import Entry, Ledger, own_sweep
from compress_export.sweep.results import rows_of

PLACE = {"variant": "cpu-fp32", "batch": 1, "sequence": 8}


def report(teacher_ms: float, speedup: float, mood: float = 1.0) -> dict[str, Any]:
    """Of a run that was timed while everything took `mood` times as long."""

    def timed(contender: str, ms: float) -> dict[str, Any]:
        return PLACE | {"contender": contender} | {f"{p}_ms": ms for p in ("p50", "p90", "p95")}

    ratio = {"ratio": speedup, "low": 0.9 * speedup, "high": 1.1 * speedup}
    size = {"encoder_parameters": 2, "encoder_macs": 2}
    kept = {"metric": "accuracy", "teacher": 0.8, "student": 0.7, "retention": 0.9}
    return {
        "verdict": "pass",
        "reference": PLACE,
        "environment": {"processor": "one"},
        "latency": [
            timed("teacher", mood * teacher_ms),
            timed("student", mood * teacher_ms / speedup),
        ],
        "speedups": [PLACE | {"contender": "student"} | ratio],
        "accuracy": [{"variant": "cpu-fp32", "low": 0.8, "high": 1.0} | kept],
        "models": {"teacher": size, "student": size},
        "size_bytes": {"cpu-fp32": 100},
    }


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Two runs of one teacher: the faster student was timed at a slow moment."""
    own_sweep(tmp_path, "mark")
    found = Ledger(tmp_path)
    for name, made in (("slow", report(4, 2)), ("fast", report(4, 3, mood=3))):
        folder = tmp_path / "runs" / name
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps(made))
        recipe = {"model": "bert", "task": "sst2"}
        entry = Entry(run=name, key=name, labels={"way": name}, recipe=recipe, kind="one")
        found.put(found.finished(entry))
    return found


def test_runs_are_compared_as_if_timed_at_one_moment(ledger: Ledger) -> None:
    slow, fast = rows_of(ledger)
    assert slow["p50_ms"] < fast["p50_ms"]
    teacher = (4 + 12) / 2
    assert (slow["steady_ms"], fast["steady_ms"]) == pytest.approx((teacher / 2, teacher / 3))
    tables = {table.name: table.rows for table in sweep_findings(ledger, ()).tables}
    assert [row["run"] for row in tables["pareto"]] == ["fast"]
    (added,) = tables["adds"]
    assert added["faster"] == pytest.approx(1.5)


def test_without_a_speedup_the_latency_stands(ledger: Ledger) -> None:
    path = ledger.folder / "runs" / "fast" / "report.json"
    path.write_text(json.dumps(report(4, 3) | {"speedups": []}))
    fast = rows_of(ledger)[1]
    assert fast["steady_ms"] == fast["p50_ms"]
