"""The proof that an int8 graph may be written: against the float32 graph that it was made from.

A bound on outputs alone cannot tell what int8 costs from a fault of the quantiser, so each kind of
fault has a case of its own. Knows graphs and inputs; must not know models or tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from compress.errors import ParityError
from export.graph.outputs import (
    Feed,
    Feeds,
    Outputs,
    PaddingRule,
    alone,
    graph_outputs,
    padded,
    relative_squared_error,
    run_graph,
)
from export.graph.session import open_session
from export.precision.int8 import held_out

__all__ = ["CASES", "Int8Case", "check_int8"]

CASES = ("weights", "texts", "padded by 8", "padded to 128", "beside others")

_TEXTS = 16
_PADDED_TO = 128
_LONGEST = 64
"""Tokens at which texts are cut for the comparison."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8Case:
    """One way in which an int8 graph was compared.

    Attributes:
        case: One of `CASES`: stored weights against the float32 graph's, in quantisation steps;
            outputs on real texts, each alone, against the float32 graph's; outputs of the same
            texts padded, or in one batch, against those of each alone.
        difference: What was found; a squared error as a share of how the outputs vary from text to
            text, but for `weights`.
        tolerance: The largest that is accepted.
    """

    case: str
    difference: float
    tolerance: float


TOLERANCES = {
    "weights": 0.51,  # rounding to the nearest step is half a step off at most
    "texts": 0.1,
    "padded by 8": 0.001,
    "padded to 128": 0.001,
    "beside others": 0.001,
}


def check_int8(
    source: Path, graph: Path, feeds: Feeds, rule: PaddingRule, where: str
) -> tuple[Int8Case, ...]:
    """Compare an int8 graph with its float32 source, and its answers with each other.

    Args:
        source: The float32 graph that `graph` was made from.
        graph: The int8 graph.
        feeds: Real texts as a graph's inputs; those that static ranges were not taken from count.
        rule: The rule by which the model's texts are padded.
        where: Name of the graph in messages.

    Raises:
        ParityError: A case is above its tolerance.
    """
    cases = []
    for case, difference in _differences(source, graph, feeds, rule):
        found = Int8Case(case=case, difference=difference, tolerance=TOLERANCES[case])
        if not difference <= found.tolerance:
            raise ParityError(f"{where}, {case}: {_REASONS[case].format(found)}")
        cases.append(found)
    return tuple(cases)


_PADDING = (
    "padding changes the outputs by {0.difference:.1e} of their variation (squared), and at most "
    "{0.tolerance:.0e} is accepted; this graph does not ignore padding"
)
_REASONS = {
    "weights": (
        "a weight is {0.difference:.2g} quantisation steps from the float32 graph's, and rounding "
        "moves it by half a step; this graph would give wrong outputs"
    ),
    "texts": (
        "int8 changes the outputs by {0.difference:.1%} of their variation (squared), and at most "
        "{0.tolerance:.0%} is accepted; leave this variant out, or choose another precision"
    ),
    "padded by 8": _PADDING,
    "padded to 128": _PADDING,
    "beside others": (
        "other texts in the batch change the outputs by {0.difference:.1e} of their variation "
        "(squared), and at most {0.tolerance:.0e} is accepted; leave this variant out"
    ),
}


def _differences(
    source: Path, graph: Path, feeds: Feeds, rule: PaddingRule
) -> Iterator[tuple[str, float]]:
    yield "weights", _worst_weight(source, graph)
    texts = _texts(held_out(feeds)[1], rule)
    single = graph_outputs(graph, texts)
    yield "texts", relative_squared_error(single, graph_outputs(source, texts))
    session = open_session(graph)

    def change(batches: Feeds) -> float:
        """How far the same texts' outputs are from those of each alone."""
        found: list[Outputs] = [one for batch in batches for one in run_graph(session, batch)]
        return relative_squared_error(found, single)

    longer = [padded(text, _length(text) + 8, rule) for text in texts]
    yield "padded by 8", change(longer)
    yield "padded to 128", change([padded(text, _PADDED_TO, rule) for text in texts])
    yield "beside others", change([_joined(texts, rule)])


def _texts(feeds: Feeds, rule: PaddingRule) -> list[dict[str, NDArray[np.int64]]]:
    """Up to `_TEXTS` texts, each alone, spread over the feeds; cut, so that there is room to pad.

    Every other one is cut shorter, so that they differ in length.
    """
    rows = [row for feed in feeds for row in alone(feed)]
    picked = rows[:: max(1, len(rows) // _TEXTS)][:_TEXTS]
    most = max(min(_LONGEST, (rule.longest or _LONGEST) - 8), 2)
    cuts = (most, max(most // 2, 2))
    return [
        {name: values[..., : cuts[i % 2]] for name, values in row.items()}
        for i, row in enumerate(picked)
    ]


def _length(feed: Feed) -> int:
    return int(feed["attention_mask"].shape[-1])


def _joined(texts: Feeds, rule: PaddingRule) -> Feed:
    longest = max(map(_length, texts))
    rows = [padded(text, longest, rule) for text in texts]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _worst_weight(source: Path, graph: Path) -> float:
    """The largest distance of a stored weight from its float32 source, in quantisation steps."""
    model, quantised = onnx.load(source).graph, onnx.load(graph).graph
    floats = {weight.name: weight for weight in model.initializer}
    stored = {weight.name: weight for weight in quantised.initializer}
    axes = {n.input[0]: _axis(n) for n in quantised.node if n.op_type == "DequantizeLinear"}
    turned = {n.input[1] for n in model.node if n.op_type == "Gemm" and _is_transposed(n)}
    if not any(name.endswith("_quantized") for name in stored):
        return float("inf")  # nothing was quantised
    worst = 0.0
    for name in stored:
        base = name.removesuffix("_quantized")
        if base == name:
            continue
        expected = numpy_helper.to_array(floats[base])
        if base in turned and name not in axes:  # a Q-DQ pair leaves the product as it was
            expected = expected.T
        values, scale = _stored(stored, name, axes.get(name, 1))
        if expected.shape != values.shape:
            return float("inf")
        worst = max(worst, float(np.abs(values - expected / scale).max()))
    return worst if np.isfinite(worst) else float("inf")


def _stored(
    stored: Mapping[str, onnx.TensorProto], name: str, axis: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A quantised weight in steps from zero, and the length of a step, broadcast along `axis`."""
    prefix = name if f"{name}_scale" in stored else name.removesuffix("_quantized")
    values, scale, zero = (
        None if part not in stored else numpy_helper.to_array(stored[part]).astype(np.float32)
        for part in (name, f"{prefix}_scale", f"{prefix}_zero_point")
    )
    assert values is not None  # it is what was asked for
    assert scale is not None  # the quantiser and `_quantise_tables` name it so

    def along(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        column = values.ndim == 2 and numbers.ndim == 1 and axis == 0
        return numbers[:, None] if column else numbers

    return values if zero is None else values - along(zero), along(scale)


def _axis(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "axis"), 1)


def _is_transposed(node: onnx.NodeProto) -> bool:
    """Whether a product takes its second input transposed; the dynamic quantiser undoes that."""
    return any(a.name == "transB" and a.i for a in node.attribute)
