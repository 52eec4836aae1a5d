"""Faults planted in an int8 graph, each refused by the case that is there for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from compress.errors import ParityError
from compress.model.binding import bind
from compress.model.surgery import apply_
from export.exporter import export_graphs
from export.graph.outputs import PaddingRule, graph_outputs, relative_squared_error
from export.precision import int8_check
from export.precision.int8_check import check_int8
from export.precision.variants import variant
from tests.families import feeds, tiny, uneven

BOUND = dict(int8_check.TOLERANCES)
NAMES = ("input_ids", "attention_mask", "token_type_ids")
RULE = PaddingRule(longest=48)


@pytest.fixture(autouse=True)
def the_products_own_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(int8_check.TOLERANCES, "texts", BOUND["texts"])


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The float32 source and the int8 graph of a pruned tiny BERT."""
    folder = tmp_path_factory.mktemp("int8")
    path = folder / "int8" / "model.onnx"
    model = tiny("bert")
    apply_(model, uneven(bind(model).shape))
    export_graphs(model, NAMES, [variant("cpu-int8")], [path], sources=folder)
    return folder / "cpu.onnx", path


def _zeroed_outputs(graph: onnx.GraphProto) -> None:
    graph.node[-1].output[0] = "before"
    graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "nothing"))
    graph.node.append(helper.make_node("Mul", ["before", "nothing"], ["logits"]))


def _lost_mask(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "MultiHeadAttention":
            del node.input[3:]


def _changed_weight(graph: onnx.GraphProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    weight = next(w for w in graph.initializer if w.name.endswith("_quantized") and w.dims[1] == 72)
    weight.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weight)), weight.name))


def _swapped_heads(graph: onnx.GraphProto) -> None:
    order = [*range(8, 16), *range(8), *range(16, 72)]
    _changed_weight(graph, lambda values: values[:, order])


def _zeroed_layer(graph: onnx.GraphProto) -> None:
    _changed_weight(graph, np.zeros_like)


def test_a_sound_graph_passes(graphs: tuple[Path, Path]) -> None:
    found = check_int8(*graphs, feeds("bert"), RULE, "cpu-int8")
    assert {case.case: case.difference for case in found}["padded to 128"] == 0.0


@pytest.mark.parametrize(
    ("plant", "case"),
    [
        (_zeroed_outputs, "texts: int8 changes"),
        (_lost_mask, "padded by 8: .* does not ignore padding"),
        (_swapped_heads, "weights: a weight is"),
        (_zeroed_layer, "weights: a weight is"),
    ],
)
def test_a_planted_fault_is_refused(
    plant: Callable[[onnx.GraphProto], None], case: str, graphs: tuple[Path, Path], tmp_path: Path
) -> None:
    model = onnx.load(graphs[1])
    plant(model.graph)
    onnx.save(model, tmp_path / "broken.onnx")
    with pytest.raises(ParityError, match=case):
        check_int8(graphs[0], tmp_path / "broken.onnx", feeds("bert"), RULE, "cpu-int8")


def test_a_large_row_of_the_embeddings_leaves_the_others_alone(tmp_path: Path) -> None:
    errors = []
    for factor in (1.0, 200.0):
        model = tiny("bert", vocab_size=1200)
        model.get_input_embeddings().weight.data[1100] *= factor  # no text holds that token
        path = tmp_path / str(factor) / "model.onnx"
        export_graphs(model, NAMES, [variant("cpu-int8")], [path], sources=path.parent)
        found, expected = (
            graph_outputs(p, feeds("bert")) for p in (path, path.parent / "cpu.onnx")
        )
        errors.append(relative_squared_error(found, expected))
    assert errors[1] == errors[0]


def test_a_constant_answer_is_as_wrong_as_none() -> None:
    expected = [[np.array([[5.0 + i, -3.0]], np.float32)] for i in (-1, 0, 1)]
    constant = [[np.array([[5.0, -3.0]], np.float32)]] * 3
    assert relative_squared_error(constant, expected) > 0.3


@pytest.mark.parametrize("offset", [0.0, 10.0, -1000.0])
def test_a_lost_mask_is_refused_however_little_the_outputs_vary(
    offset: float, tmp_path: Path
) -> None:
    model = tiny("bert", num_labels=1)
    model.classifier.bias.data += offset
    path = tmp_path / "int8" / "model.onnx"
    export_graphs(model, NAMES, [variant("cpu-int8")], [path], sources=tmp_path)
    graph = onnx.load(path)
    _lost_mask(graph.graph)
    onnx.save(graph, path)
    with pytest.raises(ParityError):
        check_int8(tmp_path / "cpu.onnx", path, feeds("bert"), RULE, "cpu-int8")


def test_a_graph_that_gives_the_mean_for_every_text_is_refused(
    graphs: tuple[Path, Path], tmp_path: Path
) -> None:
    model = onnx.load(graphs[1])
    _zeroed_outputs(model.graph)
    mean = np.mean([o[0] for o in graph_outputs(graphs[0], feeds("bert"))], 0).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(mean, "mean"))
    model.graph.node[-1].output[0] = "nil"
    model.graph.node.append(helper.make_node("Add", ["nil", "mean"], ["logits"]))
    onnx.save(model, tmp_path / "mean.onnx")
    with pytest.raises(ParityError, match="texts: int8 changes"):
        check_int8(graphs[0], tmp_path / "mean.onnx", feeds("bert"), RULE, "cpu-int8")


def test_a_graph_in_which_nothing_was_quantised_is_refused(graphs: tuple[Path, Path]) -> None:
    with pytest.raises(ParityError, match="weights"):
        check_int8(graphs[0], graphs[0], feeds("bert"), RULE, "cpu-int8")
