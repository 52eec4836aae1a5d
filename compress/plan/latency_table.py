"""A measured latency table as data: what attention and FFN cost by size, under several workloads.

Knows numbers alone. `benchmarks.profile` measures one; past that, no device is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from sklearn.isotonic import IsotonicRegression

from compress.errors import TableError
from compress.files.folder import write_whole
from compress.plan.cost import Prices
from compress.plan.plan import EncoderShape
from compress.plan.workload import Mix, Workload

__all__ = ["LatencyCurve", "LatencyTable", "Point", "Span", "table_geometry"]

Array = NDArray[np.float64]

SCHEMA = 1

FLAT_SLOPE = 0.25
"""A stretch is flat where a unit adds less than this share of what it adds on the whole curve."""
STEEP_SLOPE = 2.5
"""A stretch is a step where a unit adds more than this many times what it adds on the whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A stretch of a curve between two measured sizes: `flat`, or a `step` up."""

    kind: Literal["flat", "step"]
    low: int
    high: int
    milliseconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyCurve:
    """Milliseconds of one sublayer by its size.

    Attributes:
        sizes: Heads or neurons that were measured, rising from 0.
        milliseconds: One per size, as fitted; interpolation makes them monotone.
    """

    sizes: tuple[int, ...]
    milliseconds: tuple[float, ...]

    def at(self, sizes: Array) -> Array:
        """Milliseconds at any sizes within the measured, monotone between them.

        Measured values are made to rise by isotonic regression, and joined by monotone cubics
        (Fritsch and Carlson 1980).
        """
        known = np.array(self.sizes, float)
        rising = IsotonicRegression().fit_transform(known, np.array(self.milliseconds))
        if len(known) == 1:
            return np.full(len(sizes), rising[0])
        values: Array = PchipInterpolator(known, rising)(sizes)
        return values

    @property
    def spans(self) -> tuple[Span, ...]:
        """Where the curve is flat (launch-bound), and where it steps up."""
        rising = self.at(np.array(self.sizes, float))
        sizes = np.array(self.sizes, float)
        mean = (rising[-1] - rising[0]) / max(sizes[-1] - sizes[0], 1.0)
        found: list[Span] = []
        for i in range(1, len(sizes) - 1):  # the first stretch, from nothing to something, is own
            gain = float(rising[i + 1] - rising[i])
            slope = gain / (sizes[i + 1] - sizes[i])
            if slope < FLAT_SLOPE * mean:
                found.append(_span("flat", self.sizes, i, gain))
            elif slope > STEEP_SLOPE * mean:
                found.append(_span("step", self.sizes, i, gain))
        return tuple(_joined(found))


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """What an encoder costs under one workload.

    Attributes:
        workload: Sequences at a time, and tokens each.
        base_ms: Embeddings, task head, the call itself.
        attention, ffn: Of one use of a layer; size 0 stands for what is left when it is gone.
        dense_ms: The unpruned model, by the fit to the stacks.
        spread: Median relative half-width of the measurements' 95 % intervals.
    """

    workload: Workload
    base_ms: float
    attention: LatencyCurve
    ffn: LatencyCurve
    dense_ms: float
    spread: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyTable:
    """Measured latencies of one kind of encoder on one machine.

    Attributes:
        variant: Name of the export variant, such as `cpu-int8`.
        machine: The machine that was measured: processor, cores, GPU.
        runtime: Versions of what ran it.
        geometry: The encoder's sizes, see `table_geometry`.
        points: One per workload.
        correction: Factor on predictions, known once a student has been measured.
    """

    variant: str
    machine: Mapping[str, Any]
    runtime: Mapping[str, str]
    geometry: Mapping[str, Any]
    points: tuple[Point, ...]
    correction: float = 1.0

    def prices(self, mix: Mix) -> Prices:
        """What sizes cost under a weighted mix of workloads, in milliseconds.

        Raises:
            TableError: A workload of the mix was not measured.
        """
        heads = np.arange(self.geometry["n_heads"] + 1, dtype=float)
        widths = np.arange(self.geometry["ffn_width"] + 1, dtype=float)
        fixed, attention, ffn = 0.0, np.zeros(len(heads)), np.zeros(len(widths))
        for workload, weight in mix.shares:
            point = self.point(workload)
            scale = weight * self.correction
            fixed += scale * point.base_ms
            attention += scale * point.attention.at(heads)
            ffn += scale * point.ffn.at(widths)
        return Prices(unit="ms", fixed=fixed, attention=attention, ffn=ffn)

    def point(self, workload: Workload) -> Point:
        """The measurement of one workload."""
        for point in self.points:
            if point.workload == workload:
                return point
        known = ", ".join(str(p.workload) for p in self.points)
        raise TableError(
            f"the latency table must hold the workload {workload}, found {known or 'none'}; "
            "measure it with `compress-export profile`"
        )

    def corrected(self, factor: float) -> LatencyTable:
        """The table with all predictions multiplied by `factor`."""
        return replace(self, correction=self.correction * factor)

    def check_model(self, geometry: Mapping[str, Any]) -> None:
        """Refuse to stand for a model of other sizes.

        Raises:
            TableError: Names what differs.
        """
        for name, value in geometry.items():
            if self.geometry.get(name) != value:
                raise TableError(
                    f"the latency table must be of a model with {name} {value!r}, found "
                    f"{self.geometry.get(name)!r}; measure one with `compress-export profile`"
                )

    def check_place(self, machine: Mapping[str, Any], runtime: Mapping[str, str]) -> None:
        """Refuse to stand for another machine or runtime.

        Raises:
            TableError: Names what differs.
        """
        there = {**self.machine, **self.runtime}
        for name, value in {**machine, **runtime}.items():
            if there.get(name) != value:
                raise TableError(
                    f"the latency table must be measured with {name} {value!r}, found "
                    f"{there.get(name)!r}; measure one here, or "
                    "use it all the same with `force_table`"
                )

    def to_json(self) -> str:
        """The table as JSON text."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> LatencyTable:
        """Read what `to_json` wrote.

        Raises:
            TableError: It is no table, or of another schema.
        """
        try:
            data = json.loads(text)
            schema = data.pop("schema")
            if schema != SCHEMA:
                raise TableError(
                    f"latency table schema must be {SCHEMA}, found {schema!r}; measure it again"
                )
            points = tuple(_point(point) for point in data.pop("points"))
            return cls(points=points, **data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TableError(
                f"a latency table must hold all fields in their form, found: {error}; write it "
                "again with `compress-export profile -o FILE`"
            ) from error

    def save(self, path: Path) -> None:
        """Write the table as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: Path) -> LatencyTable:
        """Read a table written by `save`.

        Raises:
            TableError: The file cannot be read, or is no table.
        """
        if not path.is_file():
            raise TableError(
                f"a latency table must be a readable file, found none at {path}; measure one"
            )
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TableError(
                f"a latency table must be a readable file, found: {error}; write one with "
                "`compress-export profile`"
            ) from error
        try:
            return cls.from_json(text)
        except TableError as error:
            raise TableError(f"{path}: {error}") from error


def table_geometry(shape: EncoderShape, class_name: str, vocab_size: int) -> dict[str, Any]:
    """What of a model decides its latency.

    Raises:
        TableError: Layers differ in size, so that no stack of equal layers stands for them.
    """
    if len(set(shape.n_heads)) > 1 or len(set(shape.ffn_widths)) > 1:
        raise TableError(
            "a latency table needs a model whose layers are alike, found heads "
            f"{shape.n_heads} and FFN widths {shape.ffn_widths}; measure the unpruned model"
        )
    return {
        "model_type": shape.model_type,
        "class": class_name,
        "vocab_size": vocab_size,
        "depth": shape.depth,
        "kinds": ",".join(shape.kinds),
        "hidden_size": shape.hidden_size,
        "head_width": shape.head_width,
        "queries": shape.queries_per_kv_head,
        "n_heads": max(shape.n_heads),
        "ffn_width": max(shape.ffn_widths),
    }


def _point(data: Mapping[str, Any]) -> Point:
    return Point(
        workload=Workload(**data["workload"]),
        base_ms=float(data["base_ms"]),
        attention=_curve(data["attention"]),
        ffn=_curve(data["ffn"]),
        dense_ms=float(data["dense_ms"]),
        spread=float(data["spread"]),
    )


def _curve(data: Mapping[str, Any]) -> LatencyCurve:
    return LatencyCurve(
        sizes=tuple(map(int, data["sizes"])),
        milliseconds=tuple(map(float, data["milliseconds"])),
    )


def _span(kind: Literal["flat", "step"], sizes: Sequence[int], i: int, gain: float) -> Span:
    return Span(kind=kind, low=sizes[i], high=sizes[i + 1], milliseconds=gain)


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Stretches of one kind that touch, as one."""
    joined: list[Span] = []
    for span in spans:
        last = joined[-1] if joined else None
        if last and last.kind == span.kind and last.high == span.low:
            total = last.milliseconds + span.milliseconds
            joined[-1] = replace(last, high=span.high, milliseconds=total)
        else:
            joined.append(span)
    return joined
