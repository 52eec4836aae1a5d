"""A file framed by hand is the file that protobuf would read and write."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir
import pytest

from export.graph.single_file import write_single_file

FLOAT = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
TYPES = [np.float32, np.float16, np.int64, np.bool_, np.int8, ml_dtypes.bfloat16]


def model(*weights: onnx_ir.Tensor) -> onnx_ir.Model:
    """The sum of its weights as floats, added to an input."""
    x = onnx_ir.Value(name="x", shape=onnx_ir.Shape([2]), type=FLOAT)
    nodes, total = [], x
    values = [onnx_ir.Value(name=w.name, shape=w.shape, const_value=w) for w in weights]
    for value in values:
        cast = onnx_ir.node("Cast", [value], {"to": 1})
        add = onnx_ir.node("Add", [total, cast.outputs[0]])
        nodes += [cast, add]
        (total,) = add.outputs
    total.name, total.shape, total.type = "y", x.shape, x.type
    graph = onnx_ir.Graph(
        [x], [total], nodes=nodes, initializers=values, opset_imports={"": 20}, name="sum"
    )
    return onnx_ir.Model(graph, ir_version=10, producer_name="us")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(2,), (300, 2), (1,), ()])
def test_what_is_read_is_what_was_meant(
    dtype: type, shape: tuple[int, ...], tmp_path: Path
) -> None:
    values = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    weights = [onnx_ir.Tensor(values, name=name) for name in ("first", "second" * 40)]
    program = model(*weights)
    expected = onnx_ir.to_proto(program)
    write_single_file(program, tmp_path / "model.onnx")
    found = onnx.load(tmp_path / "model.onnx")
    for pair in zip(found.graph.initializer, expected.graph.initializer, strict=True):
        assert pair[0].name == pair[1].name
        assert np.array_equal(*(onnx.numpy_helper.to_array(proto) for proto in pair))
    for proto in (found, expected):
        proto.graph.ClearField("initializer")
    kept = [info for info in expected.graph.value_info if info.name not in {"first", "second" * 40}]
    del expected.graph.value_info[:]  # a weight says its own type
    expected.graph.value_info.extend(kept)
    assert found == expected
    assert onnx_ir.to_proto(program).graph.initializer, "the model has its weights still"
    again = tmp_path / "again.onnx"
    write_single_file(program, again)
    assert again.read_bytes() == (tmp_path / "model.onnx").read_bytes()


def test_a_model_without_weights_is_a_model(tmp_path: Path) -> None:
    x = onnx_ir.Value(name="x", shape=onnx_ir.Shape([2]), type=FLOAT)
    node = onnx_ir.node("Neg", [x])
    node.outputs[0].name = "y"
    graph = onnx_ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 20}, name="neg")
    write_single_file(onnx_ir.Model(graph, ir_version=10), tmp_path / "model.onnx")
    assert [n.op_type for n in onnx.load(tmp_path / "model.onnx").graph.node] == ["Neg"]
