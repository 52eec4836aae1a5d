"""A run is within a gate by the bad end of its interval, never by its point estimate."""

from __future__ import annotations

from typing import Any

import pytest

from compress_export.sweep.choose import NoneHoldsError, best, parse_bound

ROW: dict[str, Any] = {
    "run": "one",
    "variant": "cpu-fp32",
    "speedup": 2.0,
    "speedup_low": 1.9,
    "retention": 0.99,
    "retention_low": 0.97,
    "p50_high_ms": 5.2,
    "size_mb": 40.0,
}


@pytest.mark.parametrize(
    "gate", ["speedup=1.9", "retention=0.97", "latency_ms.p50=5.2", "size_mb=40"]
)
def test_a_gate_at_the_end_of_the_interval_holds(gate: str) -> None:
    assert best([ROW], [parse_bound(gate)]) is ROW


@pytest.mark.parametrize(
    "gate", ["speedup=1.95", "retention=0.98", "latency_ms.p50=5.1", "size_mb=39"]
)
def test_a_gate_within_the_interval_is_refused(gate: str) -> None:
    with pytest.raises(NoneHoldsError, match="at the end of its interval"):
        best([ROW], [parse_bound(gate)])


def test_a_speedup_without_an_interval_is_refused() -> None:
    with pytest.raises(NoneHoldsError, match="speedup is not known for sure"):
        best([ROW | {"speedup_low": None}], [parse_bound("speedup=1.1")])
