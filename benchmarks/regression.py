"""A report against an earlier one: what got slower, larger, less exact, or less fused.

Times are compared by what both runs measured beside themselves, the anchor (the dense teacher, the
first bundle of `bench`), so that drift and neighbours cancel; or by the clock. On another kind of
machine, or under other conditions, a ratio is another, and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.environment import identity_of
from benchmarks.gate import Gate, at_least, at_most, change_at_most, judging, undecided, unmeasured
from benchmarks.neighbours import BUSY
from compress.errors import DataError

__all__ = ["Limits", "regressions", "same_conditions", "same_machine"]

Report = Mapping[str, Any]
Row = Mapping[str, Any]

_PLACE = ("contender", "variant", "provider", "batch", "sequence")
_IDENTITY = ("system", "cpu", "cpu_features", "cores")
_CONDITIONS = ("threads", "isolated", "copies")


_SAME = {"anchor": "the same anchor", "data": "the same validation data"}
"""Hashes in a report's `identity`, and what each is of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What may change at most, relative to the earlier report; `None` is not judged.

    Attributes:
        latency: Increase of the median.
        throughput: Worsening under load (`load` of the report). A run of LoadGen has no interval,
            so that this is not judged unless asked for.
        memory: Increase of working memory.
        size: Increase of a graph's bytes.
        retention: Decrease, in shares of the teacher's metric.
        fused: Whether a kind of fused node may not become fewer.
        parity: Whether differences from torch must stay within their tolerance.
    """

    latency: float | None = 0.05
    throughput: float | None = None
    memory: float | None = 0.10
    size: float | None = 0.02
    retention: float | None = 0.01
    fused: bool = True
    parity: bool = True


def regressions(
    report: Report,
    baseline: Report,
    limits: Limits,
    *,
    clock: bool = False,
    kept: Mapping[tuple[str, str, str], tuple[float, float, float]] | None = None,
) -> list[Gate]:
    """Judge all that both reports measured.

    Args:
        report: Of now.
        baseline: Of then.
        limits: What may change.
        clock: Compare milliseconds, not ratios to the anchor.
        kept: By contender, variant and metric, the change of retention with its interval where
            predictions of both are at hand; it is far tighter than two intervals side by side.

    Raises:
        DataError: The clock is to be compared and the machines differ, or nothing is comparable.
    """
    _check_same_thing(report, baseline)
    judged: dict[str, Iterator[Gate]] = {
        "latency": _latency(report, baseline, limits, clock),
        "throughput": _load(report, baseline, limits),
        "memory": _memory(report, baseline, limits),
        "size": _sizes(report, baseline, limits),
        "retention": _retention(report, baseline, limits, kept or {}),
        "fused": _fused(report, baseline, limits),
        "parity": _parity(report, limits),
    }
    gates = [judging(limit, gate) for limit, found in judged.items() for gate in found]
    if not gates:
        raise DataError(
            "report and baseline must share a contender, variant and workload, found none in "
            "common; compare reports of one recipe"
        )
    return [*gates, *_missing(report, baseline, limits)]


def _check_same_thing(report: Report, baseline: Report) -> None:
    """Refuse reports of different models, tasks or anchors: their figures only look alike."""
    for place in ("model", "task"):
        now, then = (_named((r["recipe"] or {}).get(place)) for r in (report, baseline))
        if now != then:
            raise DataError(
                f"report and baseline must be of one {place}, found {now!r} and {then!r}; keep a "
                "baseline for each recipe"
            )
    now, then = (r.get("identity") or {} for r in (report, baseline))
    for name, what in _SAME.items():
        if name in now and name in then and now[name] != then[name]:
            raise DataError(
                f"report and baseline must be of {what}, found {now[name][:12]} and "
                f"{then[name][:12]}; measure the baseline again"
            )
    if report["anchor"] != baseline["anchor"]:
        raise DataError(
            f"report and baseline must have one anchor, found {report['anchor']!r} and "
            f"{baseline['anchor']!r}; name the same contender first"
        )


def _named(value: Any) -> Any:
    """A task of the user's own by its columns: where its files lie says nothing."""
    if not isinstance(value, Mapping):
        return value
    return {name: value.get(name) for name in ("text", "label", "regression", "texts")}


def _missing(report: Report, baseline: Report, limits: Limits) -> Iterator[Gate]:
    """What the baseline has and the report lacks: not judged, so not passed."""
    sections = (
        ("latency", _PLACE, limits.latency),
        ("accuracy", ("task", "metric", *_PLACE[:2]), limits.retention),
    )
    for section, keys, limit in sections:
        if limit is None:
            continue
        now = {tuple(row.get(key) for key in keys) for row in report[section]}
        for row in baseline[section]:
            if tuple(row.get(key) for key in keys) not in now:
                yield unmeasured(f"{section} {_place(row, keys)}, missing now")


def same_machine(report: Report, baseline: Report) -> bool:
    """Whether both were measured on the same kind of machine."""
    now, then = report["environment"], baseline["environment"]
    return all(now.get(name) == then.get(name) for name in _IDENTITY) and (
        identity_of(now.get("gpu")) == identity_of(then.get("gpu"))
    )


def same_conditions(report: Report, baseline: Report) -> bool:
    """Whether both were measured on one kind of machine, in the same way."""
    now, then = report["environment"], baseline["environment"]
    return same_machine(report, baseline) and all(
        now.get(name) == then.get(name) for name in _CONDITIONS
    )


def _latency(report: Report, baseline: Report, limits: Limits, clock: bool) -> Iterator[Gate]:
    if limits.latency is None:
        return
    pairs = [] if clock else list(_pairs(report, baseline, "speedups", _PLACE))
    for place, now, then in pairs:
        found = _quotient(_interval(then, "ratio"), _interval(now, "ratio"))
        gate = change_at_most(f"latency {place}, by the anchor", limits.latency, *found)
        yield undecided(gate) if _doubtful(report, baseline, now, then) else gate
    pairs = [] if pairs else list(_pairs(report, baseline, "latency", _PLACE))
    if pairs and not same_machine(report, baseline):
        raise DataError(
            f"milliseconds compare on one machine only, found {_machine(report)} and "
            f"{_machine(baseline)}; measure beside an anchor (the teacher) in both, or measure the "
            "baseline here"
        )
    for place, now, then in pairs:
        found = _quotient(_median(now), _median(then))
        gate = change_at_most(f"latency {place}, by the clock", limits.latency, *found)
        yield undecided(gate) if _doubtful(report, baseline, now, then) else gate


def _doubtful(report: Report, baseline: Report, now: Row, then: Row) -> bool:
    """Whether others were at work, or machine and conditions differ.

    The ratio of two contenders is another on another processor, with more cores, or with copies.
    """
    taken = [row.get("others", 0.0) for row in (now, then)]
    return any(share is None or share > BUSY for share in taken) or not same_conditions(
        report, baseline
    )


def _load(report: Report, baseline: Report, limits: Limits) -> Iterator[Gate]:
    if limits.throughput is None or not same_conditions(report, baseline):
        return
    keys = ("contender", "variant", "scenario", "bound_ms", "most")
    for place, now, then in _pairs(report, baseline, "load", keys):
        if not then["value"] or not (now["valid"] and then["valid"]):
            yield unmeasured(f"load {place}, not measured in both")
            continue
        found = now["value"] / then["value"]
        if now["unit"] == "s":
            yield at_most(f"load {place}", 1 + limits.throughput, found, found, found)
        else:
            yield at_least(f"load {place}", 1 - limits.throughput, found, found, found)


def _memory(report: Report, baseline: Report, limits: Limits) -> Iterator[Gate]:
    if limits.memory is None:
        return
    for place, now, then in _pairs(report, baseline, "memory", ("contender", "variant")):
        found = _quotient(_working(now), _working(then))
        gate = change_at_most(f"memory {place}", limits.memory, *found)
        yield gate if same_machine(report, baseline) else undecided(gate)


def _working(row: Row) -> tuple[float, float, float]:
    """Working memory of several processes: median, least and most, never nothing."""
    value = max(row["working_bytes"], 1)
    ends = row.get("working_low", value), row.get("working_high", value)
    return value, max(ends[0], 1), max(ends[1], 1)


def _sizes(report: Report, baseline: Report, limits: Limits) -> Iterator[Gate]:
    if limits.size is not None:
        sizes, before = report.get("size_bytes", {}), baseline.get("size_bytes", {})
        for variant in sorted(sizes.keys() & before.keys()):
            found = sizes[variant] / max(before[variant], 1)
            yield at_most(f"size {variant}", 1 + limits.size, found, found, found)


def _retention(
    report: Report,
    baseline: Report,
    limits: Limits,
    kept: Mapping[tuple[str, str, str], tuple[float, float, float]],
) -> Iterator[Gate]:
    if limits.retention is None:
        return
    keys = ("task", "metric", "contender", "variant")
    for place, now, then in _pairs(report, baseline, "accuracy", keys):
        change = kept.get((now["contender"], now["variant"], now["metric"]))
        if change is None:
            value = now["retention"] - then["retention"]
            change = (value, value - _reach(now, then, "low"), value + _reach(now, then, "high"))
        yield at_least(f"retention {place}, change", -limits.retention, *change)


def _reach(now: Row, then: Row, end: str) -> float:
    """How far a difference of two estimates reaches, from the reach of each."""
    other = "high" if end == "low" else "low"
    return math.hypot(now["retention"] - now[end], then["retention"] - then[other])


def _fused(report: Report, baseline: Report, limits: Limits) -> Iterator[Gate]:
    if not limits.fused:
        return
    now, then = report.get("fusion", {}), baseline.get("fusion", {})
    same_plan = report.get("kept") == baseline.get("kept")
    for variant in sorted(now.keys() & then.keys()):
        for op, before in then[variant]["fused"].items():
            found = now[variant]["fused"].get(op, 0)
            # Another plan may have fewer layers to fuse; only a kind that is gone is a loss then.
            least = before if same_plan else min(before, 1)
            yield at_least(f"fused {op} {variant}", least, found, found, found)


def _parity(report: Report, limits: Limits) -> Iterator[Gate]:
    worst: dict[str, Row] = {}
    for row in report.get("parity", ()) if limits.parity else ():
        best = worst.get(row["variant"])
        if (
            best is None
            or row["difference"] / row["tolerance"] > best["difference"] / best["tolerance"]
        ):
            worst[row["variant"]] = row
    for variant, row in worst.items():
        value = row["difference"]
        yield at_most(f"parity {variant}", row["tolerance"], value, value, value)


def _pairs(
    report: Report, baseline: Report, section: str, keys: Sequence[str]
) -> Iterator[tuple[str, Row, Row]]:
    """Rows of a section that both hold, by what names them."""

    def name(row: Row) -> tuple[Any, ...]:
        return tuple(row.get(key) for key in keys)

    before = {name(row): row for row in baseline.get(section) or ()}
    for row in report.get(section) or ():
        if name(row) in before:
            yield _place(row, keys), row, before[name(row)]


def _place(row: Row, keys: Sequence[str]) -> str:
    named = [k for k in keys if k not in ("batch", "sequence", "provider", "bound_ms", "most")]
    words = [str(row[k]) for k in named if k in row]
    if "batch" in keys:
        words.append(f"{row['batch']} × {row['sequence']}")
    return " ".join(words)


def _interval(row: Row, value: str) -> tuple[float, float, float]:
    return row[value], row["low"], row["high"]


def _median(row: Row) -> tuple[float, float, float]:
    high = math.inf if row["high_ms"] is None else row["high_ms"]
    return row["p50_ms"], row["low_ms"], high


def _quotient(
    over: tuple[float, float, float], under: tuple[float, float, float]
) -> tuple[float, float, float]:
    """One independent estimate over another: value and 95 % interval, on the log scale."""
    value = over[0] / under[0]
    if over[1] <= 0 or under[1] <= 0 or math.isinf(over[2]) or math.isinf(under[2]):
        return value, 0.0, math.inf
    down = math.hypot(math.log(over[0] / over[1]), math.log(under[2] / under[0]))
    up = math.hypot(math.log(over[2] / over[0]), math.log(under[0] / under[1]))
    return value, value * math.exp(-down), value * math.exp(up)


def _machine(report: Report) -> str:
    place = report["environment"]
    return f"{place.get('cpu')} with {place.get('cores')} cores"
