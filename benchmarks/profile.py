"""From graphs of stacks to a latency table: interleaved, repeated until tight, fitted.

Opens graphs and times them; must not know how a stack was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency import workload_inputs
from benchmarks.rounds import Call, interleaved
from benchmarks.runtimes.onnxruntime import OrtModel
from benchmarks.statistics import half_widths
from compress.plan.latency_table import LatencyCurve, Point
from compress.plan.workload import Workload
from export.layer_stacks import LayerStack

__all__ = ["Effort", "fit_point", "measure_graphs", "measure_stacks", "open_together"]

Array = NDArray[np.float64]

LEAST_ROUNDS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """When to stop: at that `precision` (relative half-width, median over graphs), or `seconds`.

    What slows a whole round does not count against the precision, since graphs are compared within
    rounds; it does where milliseconds themselves are wanted, `absolute`.
    """

    precision: float = 0.01
    absolute: bool = False
    seconds: float = 20.0
    rounds: int = 400
    most_bytes: int = 1_500_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Medians of several graphs under one workload.

    Attributes:
        milliseconds: One a graph.
        spread: Median relative half-width of the 95 % intervals.
        rounds: How many samples each.
    """

    milliseconds: Array
    spread: float
    rounds: int


def measure_graphs(
    graphs: Sequence[Path],
    workload: Workload,
    provider: str,
    vocab_size: int,
    effort: Effort = Effort(),
) -> Measured:
    """Median latency of every graph, interleaved in one process.

    A round runs each graph once, in random order. What slows a whole round (a neighbour on a
    shared machine) is taken out: samples are compared within their round, and the typical round
    sets the scale. Graphs too large to be open together are measured in groups, each with the
    first graph, which ties them.

    Args:
        graphs: What to measure.
        workload: On what.
        provider: Where.
        vocab_size: Of the token ids to draw.
        effort: When to stop.
    """
    groups = open_together(graphs, effort.most_bytes)
    inputs = workload_inputs(workload, vocab_size)
    milliseconds = np.zeros(len(graphs))
    spreads, rounds = [], 0
    for group in groups:
        calls = [OrtModel(graphs[i], provider).prepare(inputs) for i in group]
        budget = effort.seconds * len(group) / max(sum(map(len, groups)), 1)
        samples = _rounds(calls, effort, budget)
        logs = np.log(samples)
        centred = logs - logs.mean(axis=1, keepdims=True)
        values = np.exp(np.median(centred, axis=0) + np.median(logs.mean(axis=1))) * 1e3
        if group is not groups[0]:
            values *= milliseconds[0] / values[0]
        milliseconds[group] = values
        spreads += list(half_widths(samples, effort.absolute))
        rounds = max(rounds, len(samples))
        del calls  # before the next group is opened
    return Measured(milliseconds=milliseconds, spread=float(np.median(spreads)), rounds=rounds)


def measure_stacks(
    graphs: Mapping[LayerStack, Path],
    depth: int,
    workloads: Sequence[Workload],
    provider: str,
    vocab_size: int,
    effort: Effort = Effort(),
    progress: Callable[[str, int, int], None] = lambda *_: None,
    inner: int = 1,
) -> tuple[Point, ...]:
    """Measure all stacks under every workload and fit one point each.

    Args:
        graphs: By stack.
        depth: Layers of the unpruned model.
        workloads: What to measure.
        provider: Where.
        vocab_size: Of the token ids to draw.
        effort: For each workload.
        progress: Told after every workload.
        inner: Layers that are applied at each position (ALBERT's inner groups).
    """
    stacks = sorted(graphs, reverse=True)  # the largest first: it ties groups together
    points = []
    progress("latency table", 0, len(workloads))
    for done, workload in enumerate(workloads, start=1):
        paths = [graphs[stack] for stack in stacks]
        measured = measure_graphs(paths, workload, provider, vocab_size, effort)
        found = measured.milliseconds
        points.append(fit_point(stacks, found, depth, workload, measured.spread, inner))
        progress("latency table", done, len(workloads))
    return tuple(points)


def fit_point(
    stacks: Sequence[LayerStack],
    milliseconds: Array,
    depth: int,
    workload: Workload,
    spread: float = 0.0,
    inner: int = 1,
) -> Point:
    """Split stacks' latencies into a base and the shares of attention and FFN by size.

    ``T(n, h, w) = base + n (a_h + f_w)``, solved by least squares on relative errors. What bare
    layers cost (their norms) is halved between the sublayers, for only the sum shows.

    Args:
        stacks: What was measured.
        milliseconds: Of each, `(stacks,)`.
        depth: Layers of the unpruned model, for `dense_ms`.
        workload: Under which.
        spread: Of the measurement.
        inner: Layers that are applied at each position.
    """
    heads = sorted({s.heads for s in stacks})
    widths = sorted({s.neurons for s in stacks})
    rows = np.zeros((len(stacks) + 1, 1 + len(heads) + len(widths)))
    for row, stack in zip(rows, stacks, strict=False):
        row[0] = 1.0
        row[1 + heads.index(stack.heads)] = stack.layers * inner
        row[1 + len(heads) + widths.index(stack.neurons)] = stack.layers * inner
    scale = 1.0 / milliseconds
    rows[:-1] *= scale[:, None]
    rows[-1, 1], rows[-1, 1 + len(heads)] = 1.0, -1.0  # a_0 = f_0
    wanted = np.append(np.ones(len(stacks)), 0.0)
    solved = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    base = max(float(solved[0]), 0.0)
    attention = _curve(heads, solved[1 : 1 + len(heads)])
    ffn = _curve(widths, solved[1 + len(heads) :])
    return Point(
        workload=workload,
        base_ms=base,
        attention=attention,
        ffn=ffn,
        dense_ms=base + depth * inner * (attention.milliseconds[-1] + ffn.milliseconds[-1]),
        spread=spread,
    )


def _curve(sizes: Sequence[int], milliseconds: Array) -> LatencyCurve:
    return LatencyCurve(
        sizes=tuple(sizes), milliseconds=tuple(float(max(m, 0.0)) for m in milliseconds)
    )


def _rounds(calls: Sequence[Call], effort: Effort, seconds: float) -> Array:
    """Seconds of every call in every round: `(rounds, calls)`."""

    def enough(rounds: Sequence[Sequence[float]], passed: float) -> bool:
        if len(rounds) < LEAST_ROUNDS:
            return False
        tight = float(np.median(half_widths(rounds, effort.absolute)))
        return tight <= effort.precision or passed > seconds or len(rounds) >= effort.rounds

    return interleaved(calls, enough)


def open_together(graphs: Sequence[Path], most_bytes: int) -> list[list[int]]:
    """Graphs that may be open together; the first is in every group."""
    sizes = [sum(f.stat().st_size for f in graph.parent.glob("model.onnx*")) for graph in graphs]
    groups, room = [[0]], most_bytes - sizes[0]
    for index in range(1, len(graphs)):
        if sizes[index] > room and len(groups[-1]) > 1:
            groups.append([0])
            room = most_bytes - sizes[0]
        groups[-1].append(index)
        room -= sizes[index]
    return groups
