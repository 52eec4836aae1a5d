"""int8, two ways: activations quantised at run time, or by ranges fixed from calibration data.

The one module that touches ONNX Runtime's quantiser. Matrix weights are int8 with a scale a column,
embedding tables with a scale a row. Activations at run time have a scale a row too, that is a
token: with one scale for a whole tensor, the answer to a text would depend on its padding and on
the texts beside it. `export.precision.int8_check` proves what comes out.
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

from export.graph.outputs import Feed, Feeds, alone, graph_outputs, relative_squared_error
from export.graph.quiet import quiet

__all__ = ["Feeds", "exclusions", "held_out", "quantise_dynamic", "quantise_static"]

Array: TypeAlias = NDArray[np.float32]

_QUANTISED = ("MatMul", "Gemm")
_CALIBRATED = 16
_JUDGED = 4
_MOST_EXCLUDED = 1 / 3
_FUSED_DOMAIN = "com.microsoft"
_ROW_CONSTANTS: dict[str, NDArray[Any]] = {
    "row_unit": np.array(1.0, np.float32),
    "row_zero": np.array(128, np.uint8),
    "row_127th": np.array(1 / 127, np.float32),
    "row_axis": np.array([-1], np.int64),
    "row_least": np.array(1e-12, np.float32),
}
_LEAST_ROWS = 1000
"""Rows from which an embedding table is quantised; smaller ones weigh little."""


def quantise_dynamic(source: Path, target: Path) -> None:
    """Quantise a float32 graph dynamically: weights int8 per channel, activations at run time.

    Args:
        source: A graph without `Attention` nodes: their quantised form, `QAttention`, drops the
            mask that `Attention` takes as `attention_bias`, and says nothing.
        target: The file to write.
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
        target: The file to write.
        feeds: Calibration inputs; the last few judge (`held_out`).
        exclude: Give costly nodes back; of no use where latency alone is wanted.

    Returns:
        Names of the nodes left in float32.
    """
    calibrated, judged = held_out(feeds)
    calibrated = [text for feed in calibrated for text in alone(feed)]  # no range is of padding
    expected = graph_outputs(source, judged)
    with tempfile.TemporaryDirectory(prefix="compress-export-") as folder:
        trial, ranges = Path(folder) / "trial.onnx", Path(folder) / "ranges.json"

        def error(left_out: Sequence[str]) -> float:
            _write_static(source, trial, calibrated, ranges, left_out)
            return relative_squared_error(graph_outputs(trial, judged), expected)

        left: list[str] = []
        if exclude:
            quantise_dynamic(source, trial)
            bound = relative_squared_error(graph_outputs(trial, judged), expected)
            left = exclusions(_quantised_nodes(source), error, bound)
        _write_static(source, target, calibrated, ranges, left)
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
        nodes: Nodes that could be quantised.
        error: Returns the error of quantising all but the given nodes.
        bound: The error to reach; given up once a third of the nodes are left out.
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
    """Give rows scales of their own, and write weights into `<graph>_data` if they lie apart."""
    model = onnx.load(graph)
    _quantise_tables(model.graph)
    _quantise_rows(model.graph)
    if not apart:
        onnx.save(model, graph)
        return
    weights = graph.with_name(f"{graph.name}_data")
    graph.with_name(f"{graph.name}.data").unlink()
    weights.unlink(missing_ok=True)  # onnx appends
    onnx.save(model, graph, save_as_external_data=True, location=weights.name)


def _quantise_tables(graph: onnx.GraphProto) -> None:
    """Look large tables up in int8, and multiply each row by a scale of its own.

    The quantiser would give a whole table one scale, so that one large row spoils all others.
    """
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


def _quantise_rows(graph: onnx.GraphProto) -> None:
    """Quantise every row of an activation by itself, where the quantiser takes a whole tensor.

    A row is divided by its largest magnitude over 127, rounded, multiplied in integers, and the
    product multiplied by that step again. Nothing is done to a graph without such nodes.
    """
    dynamic = {n.output[0]: n for n in graph.node if n.op_type == "DynamicQuantizeLinear"}
    if not dynamic:
        return
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in _ROW_CONSTANTS.items()
    )
    fused = any(node.domain == _FUSED_DOMAIN for node in graph.node)
    readers = {name: node for node in graph.node for name in node.input}
    replaced: dict[str, list[onnx.NodeProto]] = {}
    dropped: set[str] = set()
    for node in dynamic.values():
        replaced[node.output[0]] = _row_steps(node.input[0], node.output[0])
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            cast, scales, scaled = _dequantising(node, readers, graph)
            dropped |= {cast.output[0], scales.output[0], scaled.output[0]}
            source = dynamic[node.input[0]].input[0]
            replaced[node.output[0]] = _row_product(
                node, scales.input[1], f"{source}_row_step", scaled.output[0], fused=fused
            )
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] in replaced:
            nodes += replaced[node.output[0]]
        elif node.output[0] not in dropped:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _dequantising(
    product: onnx.NodeProto, readers: dict[str, onnx.NodeProto], graph: onnx.GraphProto
) -> tuple[onnx.NodeProto, onnx.NodeProto, onnx.NodeProto]:
    """The nodes that the quantiser puts behind an integer product: cast, scales, their product."""
    cast = readers[product.output[0]]
    scaled = readers[cast.output[0]]
    scales = next(n for n in graph.node if n.output[0] == scaled.input[1])
    return cast, scales, scaled


def _row_steps(source: str, quantised: str) -> list[onnx.NodeProto]:
    """`quantised = round(source / step) + 128`, with `step` a row's magnitude over 127."""
    size, peak, step, rows = (f"{source}_row_{part}" for part in ("size", "peak", "step", "share"))
    return [
        helper.make_node("Abs", [source], [size], name=size),
        helper.make_node("ReduceMax", [size, "row_axis"], [f"{peak}_raw"], name=peak, keepdims=1),
        helper.make_node("Max", [f"{peak}_raw", "row_least"], [peak], name=f"{peak}_least"),
        helper.make_node("Mul", [peak, "row_127th"], [step], name=step),
        helper.make_node("Div", [source, step], [rows], name=rows),
        helper.make_node(
            "QuantizeLinear", [rows, "row_unit", "row_zero"], [quantised], name=quantised
        ),
    ]


def _row_product(
    product: onnx.NodeProto, scale: str, step: str, output: str, *, fused: bool
) -> list[onnx.NodeProto]:
    """The product in integers, by the columns' scales, then by each row's step."""
    rows, weight, _, zero = product.input
    whole = f"{output}_rows"
    if fused:
        inner = [
            helper.make_node(
                "MatMulIntegerToFloat",
                [rows, weight, "row_unit", scale, "row_zero", zero],
                [whole],
                name=f"{product.name}_rows",
                domain=_FUSED_DOMAIN,
            )
        ]
    else:
        integers, floats = f"{output}_integers", f"{output}_floats"
        inner = [
            helper.make_node(
                "MatMulInteger", [rows, weight, "row_zero", zero], [integers], name=product.name
            ),
            helper.make_node(
                "Cast", [integers], [floats], name=f"{output}_cast", to=onnx.TensorProto.FLOAT
            ),
            helper.make_node("Mul", [floats, scale], [whole], name=f"{output}_columns"),
        ]
    return [*inner, helper.make_node("Mul", [whole, step], [output], name=f"{output}_steps")]


def _reader(feeds: Feeds) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[Feed] = iter(feeds)

        def get_next(self) -> dict[str, NDArray[np.int64]] | None:
            feed = next(self.left, None)
            return None if feed is None else dict(feed)

    return Reader()


def _quantised_nodes(source: Path) -> list[str]:
    """Nodes of the types that are quantised and that multiply by a weight."""
    graph = onnx.load(source, load_external_data=False).graph
    weights = {initializer.name for initializer in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type in _QUANTISED and any(name in weights for name in node.input)
    ]


def _quantisable(source: Path) -> onnx.ModelProto:
    """A graph without what the quantisers trip over."""
    graph = onnx.load(source)
    # The quantiser transposes weights in place and then trips over their recorded shapes.
    weights = {initializer.name for initializer in graph.graph.initializer}
    kept = [info for info in graph.graph.value_info if info.name not in weights]
    del graph.graph.value_info[:]
    graph.graph.value_info.extend(kept)
    return graph
