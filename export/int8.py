"""int8, two ways: activations quantised at run time, or by ranges fixed from calibration data.

The one module that touches ONNX Runtime's quantiser. Matrix weights are int8 with a scale a column,
embedding tables int8 with a scale a row. `export.int8_check` proves what comes out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from export.compare import Feed, Feeds, graph_outputs, relative_squared_error
from export.quiet import quiet

__all__ = ["Feeds", "exclusions", "held_out", "quantise_dynamic", "quantise_static"]

Array: TypeAlias = NDArray[np.float32]

_QUANTISED = ("MatMul", "Gemm")
_CALIBRATED = 16
_JUDGED = 4
_MOST_EXCLUDED = 1 / 3
_LEAST_ROWS = 1000
"""Rows from which an embedding table is quantised; smaller ones weigh little."""


def quantise_dynamic(source: Path, target: Path) -> None:
    """Quantise a float32 graph dynamically: weights int8 per channel, activations at run time.

    Args:
        source: A graph without `Attention` nodes: their quantised form, `QAttention`, drops the
            mask that `Attention` takes as `attention_bias`, and says nothing.
        target: Where to write.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    apart = _has_weights_apart(source)
    with quiet():
        quantize_dynamic(
            _quantisable(source),
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(_QUANTISED),
            nodes_to_exclude=_independent_of_tokens(source),
            use_external_data_format=apart,
        )
    _finish(target, apart)


def quantise_static(source: Path, target: Path, feeds: Feeds, *, exclude: bool = True) -> list[str]:
    """Quantise a float32 graph with activation ranges fixed from data, as Q-DQ pairs.

    What it costs in outputs is compared with dynamic quantisation of the same graph, on inputs that
    the ranges were not taken from: the most costly nodes go back to float32, one by one, until it
    costs no more, or a third of them have.

    Args:
        source: The float32 graph.
        target: Where to write.
        feeds: Calibration inputs; the last few judge (`held_out`).
        exclude: Give costly nodes back; of no use where latency alone is wanted.

    Returns:
        Names of the nodes left in float32.
    """
    calibrated, judged = held_out(feeds)
    expected = graph_outputs(source, judged)
    fixed = _independent_of_tokens(source)
    with tempfile.TemporaryDirectory(prefix="compress-export-") as folder:
        trial, ranges = Path(folder) / "trial.onnx", Path(folder) / "ranges.json"

        def error(left_out: Sequence[str]) -> float:
            _write_static(source, trial, calibrated, ranges, [*fixed, *left_out])
            return relative_squared_error(graph_outputs(trial, judged), expected)

        left: list[str] = []
        if exclude:
            quantise_dynamic(source, trial)
            bound = relative_squared_error(graph_outputs(trial, judged), expected)
            left = exclusions(_quantised_nodes(source, fixed), error, bound)
        _write_static(source, target, calibrated, ranges, [*fixed, *left])
    return left


def held_out(feeds: Feeds) -> tuple[Feeds, Feeds]:
    """Inputs to take ranges from, and the last few to judge on; a single one serves for both."""
    n_judged = min(_JUDGED, len(feeds) - 1)
    if n_judged <= 0:
        return feeds, feeds
    return feeds[:-n_judged][:_CALIBRATED], feeds[-n_judged:]


def exclusions(
    nodes: Sequence[str], error: Callable[[Sequence[str]], float], bound: float
) -> list[str]:
    """The nodes to leave in float32, the most costly first, until `error` is within `bound`.

    Args:
        nodes: That could be quantised.
        error: Of quantising all but the given nodes.
        bound: To come down to; given up once a third of the nodes are out.
    """
    left: list[str] = []
    if error(left) <= bound:
        return left
    without = {node: error([node]) for node in nodes}
    for node in sorted(nodes, key=without.__getitem__)[: int(len(nodes) * _MOST_EXCLUDED)]:
        left.append(node)
        if error(left) <= bound:
            break
    return left


def _write_static(
    source: Path, target: Path, feeds: Feeds, ranges: Path, left_out: Sequence[str]
) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantize

    apart = _has_weights_apart(source)
    with quiet():
        quantize(
            _quantisable(source),
            target,
            None if ranges.is_file() else _reader(feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            op_types_to_quantize=list(_QUANTISED),
            nodes_to_exclude=list(left_out),
            calibration_cache_path=ranges,
            use_external_data_format=apart,
        )
    _finish(target, apart)


def _has_weights_apart(graph: Path) -> bool:
    """Whether a graph's weights lie beside it, those that are large at least."""
    weights = onnx.load(graph, load_external_data=False).graph.initializer
    return any(map(uses_external_data, weights))


def _finish(graph: Path, apart: bool) -> None:
    """Quantise the embedding tables too, and write weights into `<graph>_data` if they lie apart.

    The quantiser would give a whole table one scale, so that one large row spoils all others.
    """
    model = onnx.load(graph)
    _quantise_tables(model.graph)
    if not apart:
        onnx.save(model, graph)
        return
    weights = graph.with_name(f"{graph.name}_data")
    graph.with_name(f"{graph.name}.data").unlink()
    weights.unlink(missing_ok=True)  # onnx appends
    onnx.save(model, graph, save_as_external_data=True, location=weights.name)


def _quantise_tables(graph: onnx.GraphProto) -> None:
    """Look large tables up in int8, and multiply each row by a scale of its own."""
    tables = {
        weight.name: weight
        for weight in graph.initializer
        if len(weight.dims) == 2
        and weight.dims[0] >= _LEAST_ROWS
        and weight.data_type == onnx.TensorProto.FLOAT
    }
    for node in graph.node:
        for place, name in enumerate(node.input):
            if node.op_type != "Gather" or place > 0:
                tables.pop(name, None)  # multiplied too, as by a tied output projection
    nodes = [_looked_up(node, node.input[0] in tables) for node in graph.node]
    for name, weight in tables.items():
        values = numpy_helper.to_array(weight)
        scale = np.maximum(np.abs(values).max(1, keepdims=True), 1e-12).astype(np.float32) / 127
        graph.initializer.remove(weight)
        graph.initializer.append(
            numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f"{name}_quantized")
        )
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    del graph.node[:]
    graph.node.extend(node for group in nodes for node in group)


def _looked_up(node: onnx.NodeProto, quantised: bool) -> list[onnx.NodeProto]:
    if not quantised:
        return [node]
    (table, rows), output = node.input, node.output[0]
    whole, scale, cast = (f"{output}_{part}" for part in ("quantized", "scale", "float"))
    return [
        helper.make_node("Gather", [f"{table}_quantized", rows], [whole], name=f"{node.name}_int8"),
        helper.make_node("Gather", [f"{table}_scale", rows], [scale], name=f"{node.name}_scale"),
        helper.make_node(
            "Cast", [whole], [cast], name=f"{node.name}_float", to=onnx.TensorProto.FLOAT
        ),
        helper.make_node("Mul", [cast, scale], [output], name=f"{node.name}_row"),
    ]


def _reader(feeds: Feeds) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[Feed] = iter(feeds)

        def get_next(self) -> dict[str, NDArray[np.int64]] | None:
            feed = next(self.left, None)
            return None if feed is None else dict(feed)

    return Reader()


def _quantised_nodes(source: Path, left_out: Sequence[str]) -> list[str]:
    """Nodes of the types that are quantised and that multiply by a weight."""
    graph = onnx.load(source, load_external_data=False).graph
    weights = {initializer.name for initializer in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type in _QUANTISED
        and node.name not in left_out
        and any(name in weights for name in node.input)
    ]


def _independent_of_tokens(source: Path) -> list[str]:
    """Products that see the sequence's length alone, as those of position embeddings do.

    Their range changes with the length that a batch is padded to, so they stay in float32.
    """
    graph = onnx.load(source, load_external_data=False).graph
    reached = {value.name for value in graph.input}
    for node in graph.node:
        if node.op_type != "Shape" and not reached.isdisjoint(node.input):
            reached.update(node.output)
    return [n.name for n in graph.node if n.op_type in _QUANTISED and n.output[0] not in reached]


def _quantisable(source: Path) -> onnx.ModelProto:
    """A graph without what the quantisers trip over."""
    graph = onnx.load(source)
    # The quantiser transposes weights in place and then trips over their recorded shapes.
    weights = {initializer.name for initializer in graph.graph.initializer}
    kept = [info for info in graph.graph.value_info if info.name not in weights]
    del graph.graph.value_info[:]
    graph.graph.value_info.extend(kept)
    return graph
