"""int8: which nodes go back to float32, and that both ways run and stay near."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

import export.exporter as onnx_of_export
from export.exporter import export_graphs
from export.graph.session import open_session
from export.precision.int8 import exclusions
from export.precision.variants import variant
from tests.families import tiny

NAMES = ("input_ids", "attention_mask", "token_type_ids")
HARM = {"a": 1.0, "b": 5.0, "c": 3.0, "d": 0.5, "e": 0.1, "f": 0.1}


def feeds(count: int = 6) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        {
            "input_ids": rng.integers(5, 99, (4, 12)),
            "attention_mask": np.ones((4, 12), np.int64),
            "token_type_ids": np.zeros((4, 12), np.int64),
        }
        for _ in range(count)
    ]


def error(left_out: Sequence[str]) -> float:
    return sum(loss_increase for node, loss_increase in HARM.items() if node not in left_out)


@pytest.mark.parametrize(
    ("bound", "left"),
    [(10.0, []), (5.0, ["b"]), (2.0, ["b", "c"]), (0.0, ["b", "c"])],
)
def test_the_most_harmful_nodes_go_back_first_until_the_bound_or_a_third(
    bound: float, left: list[str]
) -> None:
    assert exclusions(list(HARM), error, bound) == left


def test_both_ways_stay_near_the_float_graph(tmp_path: Path) -> None:
    names = ["cpu-fp32", "cpu-int8", "cpu-int8-static"]
    paths = [tmp_path / name / "model.onnx" for name in names]
    export_graphs(tiny("bert"), NAMES, [variant(n) for n in names], paths, feeds())
    fed = feeds(1)[0]
    wanted, dynamic, static = (open_session(path).run(None, fed)[0] for path in paths)
    spread = np.abs(wanted).max()
    assert np.abs(dynamic - wanted).max() < 0.2 * spread
    assert np.abs(static - wanted).max() < 0.2 * spread
    kinds = {node.op_type for node in onnx.load(paths[2]).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "MultiHeadAttention"} <= kinds


@pytest.mark.parametrize("name", ["cpu-int8", "cpu-int8-static"])
def test_weights_lie_where_those_of_the_float_graph_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_of_export, "SINGLE_FILE_LIMIT", 0)
    whole, apart = tmp_path / "whole" / "model.onnx", tmp_path / "apart" / "model.onnx"
    export_graphs(tiny("bert"), NAMES, [variant(name)], [apart], feeds())
    weights = apart.with_name("model.onnx_data")
    size = weights.stat().st_size
    export_graphs(tiny("bert"), NAMES, [variant(name)], [apart], feeds())
    assert weights.stat().st_size == size
    monkeypatch.undo()
    export_graphs(tiny("bert"), NAMES, [variant(name)], [whole], feeds())
    assert sorted(p.name for p in apart.parent.iterdir()) == ["model.onnx", "model.onnx_data"]
    fed = feeds(1)[0]
    ours, same = (open_session(path).run(None, fed)[0] for path in (apart, whole))
    assert np.array_equal(ours, same)


def test_int8_alone_leaves_no_float_graph_behind(tmp_path: Path) -> None:
    for name in ("cpu-int8", "cpu-int8-static"):
        export_graphs(tiny("bert"), NAMES, [variant(name)], [tmp_path / name / "model.onnx"])
        assert [p.name for p in (tmp_path / name).iterdir()] == ["model.onnx"]
