"""A report against an earlier one: changes are found, noise and other machines are not blamed."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.gate import Gate, overall
from benchmarks.regression import Limits, regressions, same_machine
from compress.errors import DataError
from tests.benchmarks.reports import made_up


def judged(now: dict[str, Any], then: dict[str, Any], **options: Any) -> dict[str, Gate]:
    limits = options.pop("limits", Limits())
    return {gate.name: gate for gate in regressions(now, then, limits, **options)}


def on_another_machine(report: dict[str, Any]) -> dict[str, Any]:
    slow = [
        row | {k: row[k] * 3 for k in ("p50_ms", "low_ms", "high_ms")} for row in report["latency"]
    ]
    place = report["environment"] | {"cpu": "another"}
    return report | {"environment": place, "latency": slow}


def test_another_run_of_the_same_passes() -> None:
    gates = judged(made_up(seed=1), made_up(seed=2), limits=Limits(retention=0.05))
    assert overall(list(gates.values())) == "pass"
    assert "latency student cpu-fp32 1 × 64, by the anchor" in gates


@pytest.mark.parametrize("by_clock", [False, True])
def test_a_slowdown_fails_and_what_did_not_change_passes(by_clock: bool) -> None:
    now, then = made_up(slower=1.12, seed=1), made_up(seed=2)
    by = "clock" if by_clock else "anchor"
    gates = judged(now, then, clock=by_clock, limits=Limits(throughput=0.05))
    assert gates[f"latency student cpu-fp32 1 × 64, by the {by}"].verdict == "fail"
    assert gates["load student cpu-fp32 server"].verdict == "pass"


def test_another_machine_leaves_time_undecided_and_is_refused_by_the_clock() -> None:
    now, then = on_another_machine(made_up(seed=1)), made_up(seed=2)
    assert not same_machine(now, then)
    gates = judged(now, then, limits=Limits(retention=0.05))
    assert {g.verdict for g in gates.values() if g.limit == "latency"} == {"inconclusive"}
    with pytest.raises(DataError, match="one machine only"):
        judged(now, then, clock=True)


def test_two_intervals_side_by_side_cannot_tell_a_point_but_paired_predictions_can() -> None:
    now, then = made_up(kept=0.97), made_up(kept=0.98)
    name = "retention sst2 accuracy student cpu-fp32, change"
    assert judged(now, then)[name].verdict == "inconclusive"
    kept = {("student", "cpu-fp32", "accuracy"): (-0.02, -0.025, -0.015)}
    assert judged(now, then, kept=kept)[name].verdict == "fail"


def test_size_memory_fused_nodes_and_parity_are_judged() -> None:
    parity = {"variant": "cpu-fp32", "case": "long", "tolerance": 1e-3, "provider": "cpu"}
    parts = {
        "size_bytes": {"cpu-fp32": 100},
        "memory": [{"contender": "student", "variant": "cpu-fp32", "working_bytes": 100}],
        "fusion": {"cpu-fp32": {"fused": {"Attention": 6}}},
        "parity": [parity | {"difference": 1e-5}],
    }
    worse = {
        "size_bytes": {"cpu-fp32": 110},
        "memory": [{"contender": "student", "variant": "cpu-fp32", "working_bytes": 120}],
        "fusion": {"cpu-fp32": {"fused": {"Attention": 5}}},
        "parity": [parity | {"difference": 1e-2}],
    }
    then = made_up() | parts
    same = judged(made_up() | parts, then, limits=Limits(retention=None))
    assert {gate.verdict for gate in same.values()} == {"pass"}
    gates = judged(made_up() | worse, then)
    wrong = {name for name, gate in gates.items() if gate.verdict == "fail"}
    assert wrong == {
        "size cpu-fp32",
        "memory student cpu-fp32",
        "fused Attention cpu-fp32",
        "parity cpu-fp32",
    }


def test_reports_of_different_things_are_refused() -> None:
    other = made_up()
    for section in ("latency", "speedups", "accuracy", "load"):
        other[section] = [row | {"contender": "stranger"} for row in other[section]]
    other["accuracy"] = []
    with pytest.raises(DataError, match="found none in common"):
        regressions(made_up(), other, Limits())


def test_what_the_report_no_longer_measures_is_not_passed() -> None:
    now = made_up()
    now["latency"] = now["latency"][:2]
    gates = judged(now, made_up(), limits=Limits(retention=0.05))
    assert gates["latency student cpu-fp32 2 × 64, missing now"].verdict == "inconclusive"


def test_reports_of_other_models_or_anchors_are_refused() -> None:
    then = made_up()
    with pytest.raises(DataError, match="one anchor"):
        judged(made_up() | {"anchor": "student"}, then)
    recipes = ({"model": "a", "task": "sst2"}, {"model": "a", "task": "mrpc"})
    with pytest.raises(DataError, match="of one task"):
        judged(*({**made_up(), "recipe": recipe} for recipe in recipes))


def test_other_instructions_or_busy_neighbours_leave_time_undecided() -> None:
    now, then = made_up(slower=1.5, seed=1), made_up(seed=2)
    name = "latency student cpu-fp32 1 × 64, by the anchor"
    plain = now | {"environment": now["environment"] | {"cpu_features": ["none"]}}
    assert judged(plain, then)[name].verdict == "inconclusive"
    now["speedups"] = [row | {"others": 0.5} for row in now["speedups"]]
    assert judged(now, then)[name].verdict == "inconclusive"


def test_a_load_that_kept_no_bound_is_undecided_and_divides_by_nothing() -> None:
    then = made_up()
    then["load"] = [row | {"value": 0.0} for row in then["load"]]
    gates = judged(made_up(), then, limits=Limits(throughput=0.05))
    assert gates["load student cpu-fp32 server, not measured in both"].verdict == "inconclusive"


@pytest.mark.parametrize("change", [{"cores": 64}, {"isolated": True}, {"copies": False}])
def test_other_conditions_leave_time_undecided(change: dict[str, Any]) -> None:
    now, then = made_up(slower=1.5, seed=1), made_up(seed=2)
    now["environment"] = now["environment"] | change
    gates = judged(now, then)
    assert {g.verdict for g in gates.values() if g.limit == "latency"} == {"inconclusive"}


@pytest.mark.parametrize(("name", "words"), [("anchor", "anchor"), ("data", "validation data")])
def test_other_weights_or_data_are_refused(name: str, words: str) -> None:
    now, then = (made_up() | {"identity": {name: value}} for value in ("a" * 64, "b" * 64))
    with pytest.raises(DataError, match=words):
        judged(now, then)


def test_memory_is_judged_by_what_processes_differ_by() -> None:
    def report(low: int, value: int, high: int) -> dict[str, Any]:
        row = {"contender": "student", "variant": "cpu-fp32", "working_bytes": value}
        return made_up() | {"memory": [row | {"working_low": low, "working_high": high}]}

    gates = judged(report(90, 115, 140), report(80, 100, 120))
    assert gates["memory student cpu-fp32"].verdict == "inconclusive"
    gates = judged(report(139, 140, 141), report(99, 100, 101))
    assert gates["memory student cpu-fp32"].verdict == "fail"
