"""An ONNX model written as one file, its weights one by one.

Serialising a whole model through protobuf holds several copies of all weights. The format lets
them be framed by hand (https://protobuf.dev/programming-guides/encoding/): a message is its
fields one after another, a nested one preceded by its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import onnx
import onnx_ir

__all__ = ["SINGLE_FILE_LIMIT", "write_single_file"]

SINGLE_FILE_LIMIT = 2_000_000_000
"""Bytes of weights; protobuf cannot read a file that is much larger."""

_GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER
_INITIALIZER = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
_RAW_DATA = onnx.TensorProto.RAW_DATA_FIELD_NUMBER


def write_single_file(model: onnx_ir.Model, path: Path) -> None:
    """Write a model of less than 2 GB; memory takes one weight at a time.

    Args:
        model: Its weights are whole bytes: no strings, nothing narrower than a byte.
        path: The file.
    """
    weights = [_Weight(name, value) for name, value in model.graph.initializers.items()]
    whole = _without_weights(model)
    graph = whole.graph.SerializeToString(deterministic=True)
    whole.ClearField("graph")
    length = len(graph) + sum(weight.framed_length for weight in weights)
    with path.open("wb") as file:
        file.write(whole.SerializeToString(deterministic=True))
        file.write(_header(_GRAPH, length))
        file.write(graph)
        for weight in weights:
            weight.write(file)


class _Weight:
    """One initialiser on its way into a file."""

    def __init__(self, name: str, value: onnx_ir.Value) -> None:
        tensor = value.const_value
        assert tensor is not None  # an initialiser has a value
        self._tensor = tensor
        proto = onnx.TensorProto(name=name, data_type=int(tensor.dtype), dims=tensor.shape.numpy())
        self._facts = proto.SerializeToString(deterministic=True) + _header(
            _RAW_DATA, tensor.nbytes
        )

    @property
    def framed_length(self) -> int:
        """Bytes in the file."""
        length = len(self._facts) + self._tensor.nbytes
        return len(_header(_INITIALIZER, length)) + length

    def write(self, file: BinaryIO) -> None:
        """Write it as a field of the graph."""
        file.write(_header(_INITIALIZER, len(self._facts) + self._tensor.nbytes))
        file.write(self._facts)
        file.write(self._tensor.tobytes())


def _without_weights(model: onnx_ir.Model) -> onnx.ModelProto:
    initializers = dict(model.graph.initializers)
    model.graph.initializers.clear()
    try:
        return onnx_ir.to_proto(model)
    finally:
        for value in initializers.values():
            model.graph.register_initializer(value)


def _header(field: int, length: int) -> bytes:
    """The tag of a field of bytes, and how many follow."""
    return bytes(_varint(field << 3 | 2)) + bytes(_varint(length))


def _varint(number: int) -> Iterator[int]:
    while number > 0x7F:
        yield number & 0x7F | 0x80
        number >>= 7
    yield number
