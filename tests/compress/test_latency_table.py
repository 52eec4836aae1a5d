"""A latency table as data: interpolation, mixes, flat stretches, refusals, and back from JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import DataError, TableError
from compress.plan.latency_table import LatencyCurve, LatencyTable, Point
from compress.plan.workload import Mix, Workload, length_mix

SMALL, LARGE = Workload(batch=1, sequence=16), Workload(batch=8, sequence=64)


def point(workload: Workload, scale: float = 1.0) -> Point:
    return Point(
        workload=workload,
        base_ms=0.5 * scale,
        attention=LatencyCurve(
            sizes=(0, 1, 4), milliseconds=(0.1 * scale, 0.4 * scale, 1.0 * scale)
        ),
        ffn=LatencyCurve(sizes=(0, 10, 40), milliseconds=(0.1 * scale, 0.6 * scale, 2.1 * scale)),
        dense_ms=9.8 * scale,
        spread=0.01,
    )


TABLE = LatencyTable(
    variant="cpu-fp32",
    machine={"cpu": "one", "cores": 2},
    runtime={"onnxruntime": "1.31.1"},
    geometry={"model_type": "bert", "n_heads": 4, "ffn_width": 40},
    points=(point(SMALL), point(LARGE, 10.0)),
)


def one(workload: Workload) -> Mix:
    return Mix.of([(workload, 1.0)])


@given(
    st.lists(st.floats(0.01, 50), min_size=2, max_size=12),
)
def test_interpolation_never_falls_and_stays_within_what_was_measured(values: list[float]) -> None:
    sizes = tuple(range(0, 8 * len(values), 8))
    found = LatencyCurve(sizes=sizes, milliseconds=tuple(values)).at(np.arange(sizes[-1] + 1.0))
    assert (np.diff(found) >= -1e-9).all()
    assert found.min() >= min(values) - 1e-9
    assert found.max() <= max(values) + 1e-9


def test_measured_sizes_are_met_where_they_rise() -> None:
    curve = point(SMALL).attention
    assert np.allclose(curve.at(np.array([0.0, 1.0, 4.0])), curve.milliseconds)


def test_a_mix_is_the_weighted_sum_of_its_workloads() -> None:
    mix = Mix.of([(SMALL, 3.0), (LARGE, 1.0)])
    found, parts = TABLE.prices(mix), [TABLE.prices(one(w)) for w in (SMALL, LARGE)]
    assert found.fixed == pytest.approx(0.75 * parts[0].fixed + 0.25 * parts[1].fixed)
    assert np.allclose(found.ffn, 0.75 * parts[0].ffn + 0.25 * parts[1].ffn)
    assert len(found.attention) == 5
    assert len(found.ffn) == 41


def test_a_correction_scales_every_prediction() -> None:
    found = TABLE.corrected(1.1).corrected(1.2).prices(one(SMALL))
    assert np.allclose(found.attention, 1.32 * TABLE.prices(one(SMALL)).attention)
    assert found.fixed == pytest.approx(1.32 * 0.5)


def test_flat_stretches_and_steps_are_named() -> None:
    curve = LatencyCurve(
        sizes=(0, 10, 20, 30, 40, 50, 60), milliseconds=(0.0, 1.0, 1.01, 1.02, 2.0, 6.0, 6.9)
    )
    spans = [(span.kind, span.low, span.high) for span in curve.spans]
    assert spans == [("flat", 10, 30), ("step", 40, 50)]


def test_json_gives_the_same_table_back(tmp_path: Path) -> None:
    TABLE.save(tmp_path / "deep" / "table.json")
    assert LatencyTable.load(tmp_path / "deep" / "table.json") == TABLE
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["table.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "must hold all fields"),
        ("[]", "must hold all fields"),
        ('{"schema": 9}', "schema must be 1, found 9"),
        (json.dumps({**json.loads(TABLE.to_json()), "points": [{}]}), "must hold all fields"),
    ],
)
def test_other_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(TableError, match=message):
        LatencyTable.load(tmp_path / "t.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"none\.json; measure one"):
        LatencyTable.load(tmp_path / "none.json")


def test_a_table_stands_for_its_own_model_and_place_alone() -> None:
    TABLE.check_model(TABLE.geometry)
    TABLE.check_place(TABLE.machine, TABLE.runtime)
    with pytest.raises(TableError, match="n_heads 12, found 4"):
        TABLE.check_model({**TABLE.geometry, "n_heads": 12})
    with pytest.raises(TableError, match=r"cores 64, found 2.*`force_table`"):
        TABLE.check_place({**TABLE.machine, "cores": 64}, TABLE.runtime)
    with pytest.raises(TableError, match="onnxruntime"):
        TABLE.check_place(TABLE.machine, {"onnxruntime": "1.30"})


def test_an_unmeasured_workload_is_named() -> None:
    with pytest.raises(TableError, match=r"8 × 128, found 1 × 16, 8 × 64"):
        replace(TABLE).prices(one(Workload(batch=8, sequence=128)))


@pytest.mark.parametrize(
    "weights", [[], [(SMALL, 1.0), (SMALL, 2.0)], [(SMALL, 0.0)], [(SMALL, -1.0), (LARGE, 1.0)]]
)
def test_wrong_mixes_are_refused(weights: list[tuple[Workload, float]]) -> None:
    with pytest.raises(DataError, match="mix"):
        Mix.of(weights)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 6))
def test_a_length_mix_covers_all_lengths(lengths: list[int], bins: int) -> None:
    mix = length_mix(lengths, batch=4, longest=301, bins=bins)
    assert sum(share for _, share in mix.shares) == pytest.approx(1.0)
    assert max(w.sequence for w in mix.workloads) >= max(lengths)
    assert all(w.sequence % 8 == 0 or w.sequence == 301 for w in mix.workloads)
    assert len(mix.workloads) <= bins
