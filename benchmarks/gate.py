"""Does a promise hold? A gate passes, fails, or says that the measurement cannot tell.

A gate compares a 95 % interval with a threshold: it passes when the whole interval is on the good
side, fails when the whole interval is on the bad side, and is inconclusive in between.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from benchmarks.latency import Latency, speedup
from benchmarks.neighbours import BUSY
from benchmarks.statistics import LEAST_ROUNDS
from compress.errors import DataError
from compress.plan.workload import Workload

__all__ = [
    "Gate",
    "Verdict",
    "at_least",
    "at_most",
    "change_at_most",
    "evaluate_gates",
    "is_doubtful",
    "judging",
    "overall",
    "promise_gate",
    "undecided",
    "unmeasured",
]

Verdict: TypeAlias = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """One promise, what was measured, and the verdict.

    Attributes:
        name: What was promised, as in the recipe.
        threshold: The bound.
        value: The measured value.
        low, high: Its 95 % interval.
        verdict: Of this gate.
        limit: The limit of a regression that it judges (`benchmarks.regression.Limits`); empty of
            a report's own promises.
    """

    name: str
    threshold: float
    value: float
    low: float
    high: float
    verdict: Verdict
    limit: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As the report writes it; an interval without an upper end has `high` null."""
        fields = asdict(self)
        return fields | {"high": None if math.isinf(self.high) else self.high}


def at_least(name: str, threshold: float, value: float, low: float, high: float) -> Gate:
    """A gate that wants a value of at least `threshold`.

    Example:
        >>> at_least("retention", 0.98, 0.99, 0.97, 1.01).verdict
        'inconclusive'
    """
    verdict: Verdict = (
        "pass" if low >= threshold else "fail" if high < threshold else "inconclusive"
    )
    return Gate(name=name, threshold=threshold, value=value, low=low, high=high, verdict=verdict)


def at_most(name: str, threshold: float, value: float, low: float, high: float) -> Gate:
    """A gate that wants a value of at most `threshold`."""
    verdict: Verdict = (
        "pass" if high <= threshold else "fail" if low > threshold else "inconclusive"
    )
    return Gate(name=name, threshold=threshold, value=value, low=low, high=high, verdict=verdict)


def change_at_most(name: str, limit: float, value: float, low: float, high: float) -> Gate:
    """A gate on a ratio to 1, such as now over before, that wants it below ``1 + limit``.

    Where the interval reaches further than the limit itself, the measurement cannot resolve what
    it is asked for, and chance alone would cross the gate now and then: the interval is then taken
    twice as wide, so that only what is far off fails.

    Example:
        >>> change_at_most("latency", 0.05, 1.12, 1.10, 1.14).verdict
        'fail'
        >>> change_at_most("latency", 0.05, 1.20, 1.06, 1.36).verdict
        'inconclusive'
    """
    if high / value - 1 > limit or value / max(low, 1e-12) - 1 > limit:
        low, high = low * low / value, high * high / value
    return at_most(name, 1 + limit, value, low, high)


def undecided(gate: Gate) -> Gate:
    """The same gate, where what was measured can decide nothing."""
    return replace(gate, verdict="inconclusive")


def unmeasured(name: str) -> Gate:
    """A gate on what was asked for and not measured: it is not passed, and not failed."""
    return undecided(at_least(name, 1, 0, 0, 1))


def judging(limit: str, gate: Gate) -> Gate:
    """The same gate, as the one that judges a limit."""
    return replace(gate, limit=limit)


def overall(gates: Sequence[Gate]) -> Verdict:
    """One verdict over all gates: a failure outweighs doubt, doubt outweighs passing."""
    verdicts = {gate.verdict for gate in gates}
    if "fail" in verdicts:
        return "fail"
    return "inconclusive" if "inconclusive" in verdicts else "pass"


def evaluate_gates(
    promises: Mapping[str, Any],
    accuracy: Sequence[Mapping[str, Any]],
    latency: Sequence[Latency],
    reference: str,
    promised: Workload,
) -> list[Gate]:
    """Judge every promise of a recipe.

    Args:
        promises: `retention`, `speedup` and `latency_ms`, each with a limit or None.
        accuracy: The report's rows; the first of the reference variant counts.
        latency: Samples of teacher and student.
        reference: The variant that promises are about.
        promised: The workload that promises are about.

    Raises:
        DataError: Something was promised of a variant that was not measured.
    """
    gates = []
    if promises.get("retention") is not None:
        row = _find(accuracy, reference)
        gates.append(
            at_least("retention", promises["retention"], row["retention"], row["low"], row["high"])
        )
    at_target = [s for s in latency if s.workload == promised]
    teacher = next((s for s in at_target if s.contender == "teacher"), None)
    student = next(
        (s for s in at_target if s.contender != "teacher" and s.variant == reference), None
    )
    if promises.get("speedup") is not None:
        if teacher is None or student is None:
            raise _unmeasured(reference, "speedup")
        gate = at_least("speedup", promises["speedup"], *speedup(teacher, student))
        gates.append(undecided(gate) if is_doubtful(student) else gate)
    for name, limit in (promises.get("latency_ms") or {}).items():
        if limit is None:
            continue
        if student is None:
            raise _unmeasured(reference, "latency_ms")
        percent = float(name[1:])
        value, interval = student.percentile_ms(percent), student.interval_ms(percent)
        gate = at_most(f"latency_ms.{name}", limit, value, *interval)
        gates.append(undecided(gate) if is_doubtful(student) else gate)
    return gates


def is_doubtful(sample: Latency) -> bool:
    """Whether a sample can decide nothing: others were at work, or there are too few rounds."""
    return sample.others is None or sample.others > BUSY or len(sample.seconds) < LEAST_ROUNDS


def promise_gate(promise: Mapping[str, Any]) -> Gate:
    """Whether a promise over `target.mix` is kept, by the measurement made after the search.

    The attempts that the search ended with are no proof: it stops at the first that looks good.
    """
    proof = promise["proof"]
    name = "target.speedup" if promise["latency_ms"] is None else "target.latency_ms"
    if proof is None:
        return unmeasured(name)
    if promise["latency_ms"] is not None:
        high = proof["milliseconds_high"]
        high = math.inf if high is None else high
        found = (proof["milliseconds"], proof["milliseconds_low"], high)
        gate = at_most(name, promise["latency_ms"], *found)
    else:
        found = (proof["speedup"], proof["speedup_low"], proof["speedup_high"])
        gate = at_least(name, promise["speedup"], *found)
    taken = proof["others"]
    return undecided(gate) if taken is None or taken > BUSY else gate


def _find(accuracy: Sequence[Mapping[str, Any]], reference: str) -> Mapping[str, Any]:
    for row in accuracy:
        if row["variant"] == reference:
            return row
    raise _unmeasured(reference, "retention")


def _unmeasured(reference: str, gate: str) -> DataError:
    return DataError(
        f"gate.{gate} looks at the variant {reference!r}, found no measurement of it; "
        "add it to export.variants"
    )
