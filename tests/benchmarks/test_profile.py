"""The fit of a latency table against made-up machines, and real graphs of a tiny stack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.profile import Effort, fit_point, measure_graphs, measure_stacks
from benchmarks.report.curves import table_figure
from benchmarks.runtimes.onnxruntime import CPU
from compress.model.binding import bind
from compress.plan.latency_table import LatencyTable, table_geometry
from compress.plan.workload import Mix, Workload
from export.layer_stacks import LayerStack, export_stacks, stack_plan, stack_sizes
from export.precision.variants import variant
from tests.families import tiny

WORK = Workload(batch=2, sequence=8)
NAMES = ("input_ids", "attention_mask", "token_type_ids")


def made_up(stack: LayerStack) -> float:
    """A machine whose first head and first neurons cost more than the next."""
    attention = 0.05 + 0.3 * (stack.heads > 0) + 0.1 * stack.heads
    ffn = 0.05 + 0.2 * (stack.neurons > 0) + 0.01 * stack.neurons
    return 0.7 + stack.layers * (attention + ffn)


def test_the_fit_recovers_what_the_stacks_are_made_of() -> None:
    shape = bind(tiny("bert")).shape
    stacks = stack_sizes(shape, 4)
    times = np.array([made_up(s) for s in stacks])
    point = fit_point(stacks, times, shape.depth, WORK)
    assert point.base_ms == pytest.approx(0.7)
    attention = dict(zip(point.attention.sizes, point.attention.milliseconds, strict=True))
    ffn = dict(zip(point.ffn.sizes, point.ffn.milliseconds, strict=True))
    assert attention[4] == pytest.approx(0.75)
    assert attention[0] == pytest.approx(0.05)
    assert ffn[40] == pytest.approx(0.65)
    assert point.dense_ms == pytest.approx(made_up(LayerStack(layers=3, heads=4, neurons=40)))


@pytest.mark.parametrize("family", ["bert", "albert", "albert, two groups", "modernbert"])
def test_stacks_are_cut_from_the_model(family: str) -> None:
    layout = bind(tiny(family))
    for stack in stack_sizes(layout.shape, 4):
        shape = stack_plan(layout, stack).student_shape
        assert set(shape.n_heads) == {stack.heads}
        assert set(shape.ffn_widths) == {stack.neurons}
        assert shape.depth == stack.layers


def test_a_table_of_a_tiny_model_predicts_from_data_alone(tmp_path: Path) -> None:
    model = tiny("bert")
    shape = bind(model).shape
    stacks = [s for s in stack_sizes(shape, 16) if s.heads in (0, 3, 4)]
    graphs = export_stacks(model, stacks, NAMES, [variant("cpu-fp32")], tmp_path)["cpu-fp32"]
    effort = Effort(precision=0.05, seconds=1.0)
    points = measure_stacks(graphs, shape.depth, [WORK], CPU, 99, effort)
    table = LatencyTable(
        variant="cpu-fp32",
        machine={},
        runtime={},
        geometry=table_geometry(shape, "B", 99),
        points=points,
    )
    prices = table.prices(Mix.of([(WORK, 1.0)]))
    assert prices.total(shape) > prices.fixed >= 0
    assert (np.diff(prices.ffn) >= 0).all()
    assert table_figure(table).startswith("<svg")


def test_graphs_too_large_to_be_open_together_are_tied_by_the_first(tmp_path: Path) -> None:
    model = tiny("bert")
    stacks = [LayerStack(layers=n, heads=4, neurons=40) for n in (1, 2, 3)]
    graphs = export_stacks(model, stacks, NAMES, [variant("cpu-fp32")], tmp_path)["cpu-fp32"]
    paths = [graphs[s] for s in stacks]
    effort = Effort(precision=0.0, seconds=0.2, most_bytes=1)
    found = measure_graphs(paths, WORK, CPU, 99, effort)
    assert found.milliseconds.shape == (3,)
    assert (found.milliseconds > 0).all()
    assert found.rounds >= 8
