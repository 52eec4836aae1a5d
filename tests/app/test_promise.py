"""A promised latency on made-up clocks: missed, corrected, kept; refused where out of reach."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.errors import BudgetError
from compress.model.binding import bind
from compress.plan.latency_table import LatencyCurve, LatencyTable, Point, table_geometry
from compress.plan.plan import EncoderShape, Plan
from compress.plan.workload import Mix, Workload
from compress.pruner.pruner import Pruner
from compress.pruner.spec import PruneSpec
from compress_export import promise as promise_module
from compress_export.frontier import knee
from compress_export.goal import Goal
from compress_export.promise import ATTEMPTS, Attempt, Promise, Stopwatch
from compress_export.reach import Reached, rank
from export.precision.variants import variant
from tests.families import batch, tiny

WORK = Workload(batch=2, sequence=8)
MIX = Mix.of([(WORK, 1.0)])
BATCHES = [batch(rows=8, length=12, seed=s) for s in range(8)]


def table(shape: EncoderShape) -> LatencyTable:
    """A head costs 1 ms, a neuron 0.1, what is left of a sublayer 0.1, all else 0.5."""
    curve = [
        LatencyCurve(sizes=(0, n), milliseconds=(0.1, top)) for n, top in ((4, 4.1), (40, 4.1))
    ]
    point = Point(
        workload=WORK, base_ms=0.5, attention=curve[0], ffn=curve[1], dense_ms=25.1, spread=0.0
    )
    return LatencyTable(
        variant="cpu-fp32",
        machine={},
        runtime={},
        geometry=table_geometry(shape, "B", 99),
        points=(point,),
    )


class Machine:
    """A clock by which students take `factor` times what the table says."""

    def __init__(self, factor: float, dense_ms: float = 25.1) -> None:
        self.factor, self.dense_ms, self.mix = factor, dense_ms, MIX
        self.exported: list[Any] = []

    def again(self) -> Machine:
        return self

    def absolute(self) -> Machine:
        return self

    def time(self, graphs: list[Path]) -> list[float]:
        if not graphs:
            return [self.dense_ms]
        shape = bind(self.exported[-1]).shape
        predicted = table(bind(tiny("bert")).shape).prices(MIX).total(shape)
        return [self.dense_ms, self.factor * predicted * self.dense_ms / 25.1]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    def build(machine: Machine, **spec: Any) -> Promise:
        def export(model: Any, *_: Any) -> None:
            machine.exported.append(model)

        monkeypatch.setattr(promise_module, "export_graphs", export)
        monkeypatch.setattr(promise_module, "_runner", lambda *_: lambda b: _forward(machine, b))
        model = tiny("bert")
        shape = bind(model).shape
        chosen = PruneSpec(round_to=4, trials=0, **spec)
        pruner = Pruner(model, BATCHES, table(shape).prices(MIX), chosen)
        watch: Stopwatch = machine  # type: ignore[assignment]
        return Promise(pruner, table(shape), 25.1, watch, variant("cpu-fp32"), ())

    return build


def _forward(machine: Machine, data: Any) -> Any:
    from compress.model.batches import forward

    return forward(machine.exported[-1], data)


def test_a_true_table_keeps_its_promise_at_once(make: Any) -> None:
    member, attempts = make(Machine(1.0)).keep(Goal(speedup=2.0))
    assert [a.kept for a in attempts] == [True]
    assert attempts[0].predicted_ms == pytest.approx(member.cost)
    assert attempts[0].speedup >= 2.0


def test_a_missed_promise_corrects_the_table_and_goes_on(make: Any) -> None:
    machine = Machine(1.2)
    promise = make(machine)
    _, attempts = promise.keep(Goal(speedup=2.0))
    assert [a.kept for a in attempts] == [False, True]
    assert promise.table.correction == pytest.approx(1.2)
    assert attempts[-1].predicted_ms == pytest.approx(attempts[-1].measured_ms)
    sizes = [sum(bind(m).shape.ffn_widths) for m in machine.exported]
    assert sizes[1] < sizes[0]


def test_a_speed_up_does_not_mind_a_slower_machine(make: Any) -> None:
    _, attempts = make(Machine(1.0, dense_ms=60.0)).keep(Goal(speedup=2.0))
    assert len(attempts) == 1
    assert attempts[0].measured_ms <= 30.0


@pytest.mark.parametrize("dense_ms", [20.0, 30.0])
def test_milliseconds_are_those_of_the_clock(make: Any, dense_ms: float) -> None:
    _, attempts = make(Machine(1.0, dense_ms=dense_ms)).keep(Goal(latency_ms=12.0))
    assert len(attempts) == 1
    assert 11.0 < attempts[0].measured_ms <= 12.0
    assert attempts[0].predicted_ms == pytest.approx(attempts[0].measured_ms)


def test_of_misses_the_nearest_stands_and_of_promises_kept_the_truest() -> None:
    def reached(name: str, measured_ms: float, error: float) -> Reached:
        attempt = Attempt(
            variant=name, dense_ms=30.0, predicted_ms=10.0, measured_ms=measured_ms,
            speedup=30.0 / measured_ms, error=error, kept=measured_ms <= 10.0,
        )  # fmt: skip
        plan = Plan.full(bind(tiny("bert")).shape)
        return Reached(
            model=tiny("bert"), plan=plan, variant=variant(name), attempts=(attempt,), error=error
        )

    goal = Goal(speedup=3.0)
    near, far = reached("cpu-fp32", 10.2, 0.5), reached("cpu-int8", 12.0, 0.1)
    assert min([far, near], key=lambda r: rank(r, goal)) is near
    kept, truer = reached("cpu-fp32", 9.0, 0.5), reached("cpu-int8", 9.9, 0.1)
    assert min([near, kept, truer], key=lambda r: rank(r, goal)) is truer


def test_a_miss_is_believed_the_second_time(make: Any) -> None:
    class Nervous(Machine):
        def again(self) -> Machine:
            calm = Machine(1.0)
            calm.exported = self.exported
            return calm

    _, attempts = make(Nervous(1.3)).keep(Goal(speedup=2.0))
    assert [a.kept for a in attempts] == [True]


def test_attempts_are_bounded(make: Any) -> None:
    class Stubborn(Machine):
        def time(self, _: list[Path]) -> list[float]:
            return [25.1, 12.56]

    promise = make(Stubborn(1.0))
    promise.table = promise.table.corrected(1.0)
    _, attempts = promise.keep(Goal(speedup=2.0))
    assert len(attempts) == ATTEMPTS
    assert not attempts[-1].kept


def test_an_unreachable_goal_names_the_fastest(make: Any) -> None:
    with pytest.raises(BudgetError, match=r"target 40× cannot be .* \(1\d\.\d+×\) at 2 × 8"):
        make(Machine(1.0)).keep(Goal(speedup=40.0))


def test_the_knee_is_where_the_curve_bends() -> None:
    points = [
        {"name": f"{s:g}×", "speedup": s, "retention": r}
        for s, r in ((1.5, 1.0), (2.0, 0.99), (3.0, 0.98), (4.0, 0.80), (6.0, 0.55))
    ]
    assert knee(points) == "3×"
    assert knee(points[:2]) is None


def test_students_of_a_promise_stand_on_each_other(make: Any) -> None:
    promise = make(Machine(1.0))
    plans = [promise.keep(Goal(speedup=s))[0].plan for s in (1.5, 2.0, 3.0)]
    for wider, narrower in pairwise(plans):
        for a, b in zip(wider.layers, narrower.layers, strict=True):
            assert set(b.heads) <= set(a.heads)
            assert set(b.neurons) <= set(a.neurons)
    assert np.isfinite(promise.pruner.pruned().error)
