"""int8, two ways: activations quantised as they come, or by ranges fixed from calibration data.

The one module that touches ONNX Runtime's quantiser. Weights are int8 per channel in both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.external_data_helper import uses_external_data

from export.quiet import quiet
from export.session import open_session

__all__ = ["Feeds", "exclusions", "quantise_dynamic", "quantise_static"]

Feeds: TypeAlias = Sequence[Mapping[str, NDArray[np.int64]]]
Array: TypeAlias = NDArray[np.float32]

_STATIC_TYPES = ("MatMul", "Gemm")
_CALIBRATED = 16
_JUDGED = 4
_MOST_EXCLUDED = 1 / 3


def quantise_dynamic(source: Path, target: Path) -> None:
    """Quantise a float32 graph dynamically: weights int8 per channel, activations at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph, apart = _quantisable(source), _has_weights_apart(source)
    with quiet():
        quantize_dynamic(
            graph,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=apart,
        )
    if apart:
        _settle_weights(target)


def quantise_static(source: Path, target: Path, feeds: Feeds, *, exclude: bool = True) -> list[str]:
    """Quantise a float32 graph with activation ranges fixed from data, as Q-DQ pairs.

    What it costs in outputs is held against dynamic quantisation of the same graph: the nodes that
    do most harm go back to float32, one by one, until it costs no more, or a third of them have.

    Args:
        source: The float32 graph.
        target: Where to write.
        feeds: Calibration inputs.
        exclude: Give costly nodes back; of no use where latency alone is wanted.

    Returns:
        Names of the nodes left in float32.
    """
    judged = feeds[:_JUDGED]
    wanted = _outputs(source, judged)
    with tempfile.TemporaryDirectory(prefix="compress-export-") as folder:
        trial, ranges = Path(folder) / "trial.onnx", Path(folder) / "ranges.json"

        def error(left_out: Sequence[str]) -> float:
            _write_static(source, trial, feeds[:_CALIBRATED], ranges, left_out)
            return _difference(_outputs(trial, judged), wanted)

        left: list[str] = []
        if exclude:
            quantise_dynamic(source, trial)
            bound = _difference(_outputs(trial, judged), wanted)
            left = exclusions(_quantised_nodes(source), error, bound)
        _write_static(source, target, feeds[:_CALIBRATED], ranges, left)
    return left


def exclusions(
    nodes: Sequence[str], error: Callable[[Sequence[str]], float], bound: float
) -> list[str]:
    """The nodes to leave in float32, the most harmful first, until `error` is within `bound`.

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
            op_types_to_quantize=list(_STATIC_TYPES),
            nodes_to_exclude=list(left_out),
            calibration_cache_path=ranges,
            use_external_data_format=apart,
        )
    if apart:
        _settle_weights(target)


def _has_weights_apart(graph: Path) -> bool:
    """Whether a graph's weights lie beside it, those that are large at least."""
    weights = onnx.load(graph, load_external_data=False).graph.initializer
    return any(map(uses_external_data, weights))


def _settle_weights(graph: Path) -> None:
    """Put the weights that the quantiser has left beside a graph into `<graph>_data`."""
    model, weights = onnx.load(graph), graph.with_name(f"{graph.name}_data")
    graph.with_name(f"{graph.name}.data").unlink()
    weights.unlink(missing_ok=True)  # onnx appends
    onnx.save(model, graph, save_as_external_data=True, location=weights.name)


def _reader(feeds: Feeds) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[Mapping[str, NDArray[np.int64]]] = iter(feeds)

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
        if node.op_type in _STATIC_TYPES and any(name in weights for name in node.input)
    ]


def _outputs(graph: Path, feeds: Feeds) -> list[Array]:
    session = open_session(graph)
    names = [i.name for i in session.get_inputs()]
    return [session.run(None, {name: feed[name] for name in names})[0] for feed in feeds]


def _difference(found: Sequence[Array], wanted: Sequence[Array]) -> float:
    return float(np.mean([np.square(a - b).mean() for a, b in zip(found, wanted, strict=True)]))


def _quantisable(source: Path) -> onnx.ModelProto:
    """A graph without what the quantisers trip over."""
    graph = onnx.load(source)
    # The quantiser transposes weights in place and then trips over their recorded shapes.
    weights = {initializer.name for initializer in graph.graph.initializer}
    kept = [info for info in graph.graph.value_info if info.name not in weights]
    del graph.graph.value_info[:]
    graph.graph.value_info.extend(kept)
    _drop_equal_sizes(graph)
    return graph


def _drop_equal_sizes(graph: onnx.ModelProto) -> None:
    """Drop `qkv_hidden_sizes` where all three agree.

    The weight's shape says it, and the quantiser skips any attention that has the attribute.
    """
    for node in graph.graph.node:
        for attribute in list(node.attribute):
            if attribute.name == "qkv_hidden_sizes" and len(set(attribute.ints)) == 1:
                node.attribute.remove(attribute)
