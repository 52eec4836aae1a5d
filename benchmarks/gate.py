"""Does a promise hold? A gate passes, fails, or says that the measurement cannot tell.

A gate compares a 95 % interval with a threshold: it passes when the whole interval is on the good
side, fails when the whole interval is on the bad side, and is inconclusive in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["Gate", "Verdict", "at_least", "at_most", "overall"]

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
    """

    name: str
    threshold: float
    value: float
    low: float
    high: float
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """As the report writes it."""
        return asdict(self)


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


def overall(gates: Sequence[Gate]) -> Verdict:
    """One verdict over all gates: a failure outweighs doubt, doubt outweighs passing."""
    verdicts = {gate.verdict for gate in gates}
    if "fail" in verdicts:
        return "fail"
    return "inconclusive" if "inconclusive" in verdicts else "pass"
