"""All rows of the study, and the points that several of them make together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.coherence import knee_of
from benchmarks.significance import ratio
from compress.plan.plan import EncoderShape
from compress_export.studies.grid import Row
from compress_export.studies.groups import spread
from compress_export.studies.question import Question

__all__ = ["HeadFacts", "area", "deduction_points"]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadFacts:
    """All rows of the study."""

    question: Question
    shape: EncoderShape
    importances: Sequence[Row]
    coherences: Sequence[Row]
    curves: Sequence[Row]
    deductions: Sequence[Row]
    tuned: Sequence[Row]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Of the question."""
        return self.question.tasks

    @property
    def masked(self) -> bool:
        """Whether the loss of masked tokens was looked at."""
        return any(row["of"] == "mlm" for row in self.importances)

    @property
    def telling(self) -> tuple[str, ...]:
        """Tasks whose fine-tuned model does better than nothing, so that it has what to lose."""
        return tuple(self.question.telling(self.whole))

    @property
    def whole(self) -> dict[str, float]:
        """The metric of each fine-tuned model with all of its heads."""
        return {task: self.curve(task, "one-shot")[0]["metric"] for task in self.tasks}

    def curve(self, of: str, order: str) -> list[Row]:
        """One curve, its seeds averaged."""
        rows = [r for r in self.curves if r["of"] == of and r["order"] == order]
        shares = sorted({r["share"] for r in rows})
        return [_mean([r for r in rows if r["share"] == share]) for share in shares]

    def orders(self, of: str) -> list[str]:
        """The orders of a task's curves."""
        return list(dict.fromkeys(r["order"] for r in self.curves if r["of"] == of))


def _mean(rows: Sequence[Row]) -> Row:
    numbers = ("metric", "retention", "low", "high")
    found: dict[str, Any] = {"share": rows[0]["share"]}
    return found | {n: float(np.mean([r[n] for r in rows])) for n in numbers if n in rows[0]}


def area(curve: Sequence[Row]) -> float:
    """Mean of what is kept over the shares."""
    return float(np.mean([p["retention"] for p in curve[1:]]))


def deduction_points(facts: HeadFacts) -> list[Row]:
    """What the task keeps at each rise of the loss of masked tokens."""
    if not facts.deductions:
        return []
    nats = {p["share"]: p["metric"] for p in facts.curve("mlm", "one-shot")}
    found: list[Row] = []
    for task in facts.tasks:
        rows = [r for r in facts.deductions if r["task"] == task]
        shares = sorted({r["share"] for r in rows})
        values = [np.array([r["metric"] for r in rows if r["share"] == s]) for s in shares]
        whole = float(values[0].mean())
        points: list[Row] = [
            {
                "task": task,
                "share": share,
                "rise": nats[share] - nats[0.0],
                "metric": float(value.mean()),
                "spread": spread(value.tolist()),
                "kept": ratio(whole, float(value.mean())),
                "knee": False,
            }
            for share, value in zip(shares, values, strict=True)
        ]
        ordered = sorted(points, key=lambda p: p["rise"])
        place = knee_of([p["rise"] for p in ordered], [p["kept"] for p in ordered])
        if place is not None:
            ordered[place]["knee"] = True
        found += points
    return found
