"""The whole family from one run: a student at every target, beside baselines, all measured.

One pruner gives the students; each is exported in every precision; then all of them, the unpruned
model in those precisions and the baselines are timed together and judged on the same data.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedModel

from benchmarks.coherence import knee_of
from benchmarks.environment import environment
from benchmarks.gate import at_least
from benchmarks.latency import Contender, Prepare
from benchmarks.mix import MixedLatency
from benchmarks.profile import Effort, open_together
from benchmarks.runtimes.onnxruntime import OrtModel
from compress.errors import BudgetError, ParityError
from compress.model.batches import Progress
from compress.model.binding import bind
from compress.plan.latency_table import LatencyTable
from compress.plan.plan import Plan
from compress.pruner.pruner import PrunedModel, Pruner
from compress_export.baselines import baselines
from compress_export.context import Context
from compress_export.facts import model_facts
from compress_export.goal import Goal
from compress_export.learning import learn
from compress_export.promise import Attempt, Promise, Stopwatch
from compress_export.proof import prove
from compress_export.quality import Yardstick
from compress_export.reach import promise_of
from compress_export.recovery import course_of
from export.bundle import export_bundle
from export.exporter import export_graphs
from export.precision.variants import Variant

__all__ = ["Entry", "Frontier", "knee"]

Kind = Literal["student", "unpruned", "baseline"]

BASELINE_TARGETS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One point of the picture.

    Attributes:
        name: Such as `2×`, `unpruned` or `magnitude`.
        kind: What it is.
        variant: How it was exported.
        graph: Where it is.
        predicted_ms: By the table before any correction, on the scale of the unpruned model's
            prediction; none for what is not predicted.
        target: The speed-up that was asked for.
        error: On held-out calibration data.
        heads, ffn_widths: Of its layers.
        encoder_parameters, encoder_macs: What it weighs.
    """

    name: str
    kind: Kind
    variant: Variant
    graph: Path
    predicted_ms: float | None = None
    target: float | None = None
    error: float | None = None
    heads: tuple[int, ...] = ()
    ffn_widths: tuple[int, ...] = ()
    encoder_parameters: int = 0
    encoder_macs: int = 0

    @property
    def contending(self) -> Contender:
        """As something to measure."""
        return Contender(
            name=self.name,
            variant=self.variant.name,
            provider=self.variant.provider,
            open=self._opened,
        )

    @contextmanager
    def _opened(self) -> Iterator[Prepare]:
        yield OrtModel(self.graph, self.variant.provider).prepare


_SPEEDUP = ("speedup", "speedup_low", "speedup_high")


class Frontier:
    """Targets, students and what they are compared with, written into one folder.

    Args:
        context: Model, data and method; its recipe's target is left aside but for the workload.
        targets: Speed-ups over the unpruned float32 model.
        folder: Where students are written, `students/<target>/`.
        progress: Told how far each step is.
    """

    def __init__(
        self, context: Context, targets: Sequence[float], folder: Path, progress: Progress
    ) -> None:
        self.context, self.folder, self.progress = context, folder, progress
        self.targets = sorted(set(targets))
        self.reference = context.recipe.reference()
        self.variants = tuple(dict.fromkeys([self.reference, *context.recipe.candidates()]))
        self.tables: dict[str, LatencyTable] = {}
        self.feeds = context.feeds_for(self.variants)
        self.entries: list[Entry] = []
        self.attempts: list[dict[str, Any]] = []
        self.missed: list[dict[str, Any]] = []
        self.unreached: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []

    def __call__(self, *, with_baselines: bool) -> dict[str, Any]:
        """Make the students, measure everything, and give the frontier as plain data."""
        with tempfile.TemporaryDirectory(prefix="compress-export-") as work:
            promises = promise_of(self.context, self.variants, Path(work), self.progress)
            promise = promises[self.reference.name]
            self.tables = {name: p.table for name, p in promises.items()}
            self._unpruned(Path(work))
            plans = [p for p in (self._student(promise, t) for t in self.targets) if p]
            if with_baselines:
                self._baselines(plans, Path(work))
            return self._measured(promise.watch)

    def _unpruned(self, work: Path) -> None:
        graphs = [work / "unpruned" / v.name / "model.onnx" for v in self.variants]
        teacher = self.context.teacher
        export_graphs(teacher, self.context.names, self.variants, graphs, self.feeds)
        shape = bind(teacher).shape
        for variant, graph in zip(self.variants, graphs, strict=True):
            prices = self.tables[variant.name].prices(self.context.mix)
            self._add("unpruned", "unpruned", variant, graph, teacher, prices.total(shape))

    def _student(self, promise: Promise, target: float) -> tuple[float, Plan] | None:
        """The student of one target, written in every variant; none where it is out of reach."""
        try:
            member, attempts = promise.keep(Goal(speedup=target))
        except BudgetError as error:
            self.unreached.append({"target": target, "reason": str(error)})
            return None
        self._note(target, attempts)
        folder = self.folder / "students" / f"{target:g}x"
        if self.context.recipe.recover.epochs:
            member = self._trained(promise.pruner, member)
        self.context.save(member.model, member.plan, folder / "checkpoint")
        shape = member.plan.student_shape
        for variant in self._exported(member.model, folder / "onnx", target):
            graph = folder / "onnx" / variant.name / "model.onnx"
            predicted = self.tables[variant.name].prices(self.context.mix).total(shape)
            self._add(
                f"{target:g}×", "student", variant, graph, member.model, predicted,
                target=target, error=member.error,
            )  # fmt: skip
        return target, member.plan

    def _exported(
        self, student: PreTrainedModel, folder: Path, target: float
    ) -> tuple[Variant, ...]:
        """Write the student's graphs; an int8 graph that loses too much is left out and noted."""
        tokenizer, feeds = self.context.tokenizer, self.feeds
        try:
            export_bundle(student, tokenizer, self.variants, folder, feeds=feeds)
        except ParityError as error:
            whole = tuple(variant for variant in self.variants if not variant.int8)
            if whole == self.variants:
                raise
            self.refused.append({"target": target, "reason": str(error)})
            export_bundle(student, tokenizer, whole, folder, feeds=feeds)
            return whole
        return self.variants

    def _trained(self, pruner: Pruner, member: PrunedModel) -> PrunedModel:
        """The student once it has learnt; pruning goes on from it (ZipLM's gradual pruning)."""
        course, teaching = course_of(self.context, member.plan)
        learn(member.model, course, teaching=teaching, plan=member.plan, progress=self.progress)
        pruner.continue_from(member.model)
        return pruner.pruned()

    def _note(self, target: float, attempts: Sequence[Attempt]) -> None:
        self.attempts += [{"target": target, **attempt.to_dict()} for attempt in attempts]

    def _proven(self, vocab_size: int) -> list[MixedLatency]:
        """Every entry beside the first; those that are too large to be open together in groups."""
        settings = self.context.recipe.benchmark
        found: dict[int, MixedLatency] = {}
        graphs = [entry.graph for entry in self.entries]
        for group in open_together(graphs, Effort().most_bytes):
            contenders = [self.entries[i].contending for i in group]
            measured = prove(
                contenders, self.context.mix, vocab_size, settings.precision, settings.openings,
                self.progress,
            )  # fmt: skip
            found.update(zip(group, measured, strict=True))
        return [found[i] for i in range(len(graphs))]

    def _note_missed(self, point: dict[str, Any]) -> None:
        """Note a student whose closing measurement does not reach its target for sure."""
        if point["target"] is None or point["variant"] != self.reference.name:
            return
        gate = at_least("speedup", point["target"], *(point[name] for name in _SPEEDUP))
        if gate.verdict != "pass":
            attempts = [a for a in self.attempts if a["target"] == point["target"]]
            self.missed.append(
                {
                    "target": point["target"],
                    "speedup": point["speedup"],
                    "low": point["speedup_low"],
                    "high": point["speedup_high"],
                    "verdict": gate.verdict,
                    "attempts": len(attempts),
                }
            )

    def _baselines(self, plans: Sequence[tuple[float, Plan]], work: Path) -> None:
        """What simpler ways give at the MACs of the students in the middle of the curve."""
        middle = plans[1 : 1 + 2 * BASELINE_TARGETS : 2] or plans[:1]
        for target, plan in middle:
            for name, model in baselines(self.context, plan, self.progress):
                graph = work / f"{name}-{target:g}" / "model.onnx"
                export_graphs(model, self.context.names, [self.reference], [graph])
                self._add(f"{name}, {target:g}×", "baseline", self.reference, graph, model)

    def _add(
        self,
        name: str,
        kind: Kind,
        variant: Variant,
        graph: Path,
        model: PreTrainedModel,
        predicted_ms: float | None = None,
        **more: Any,
    ) -> None:
        shape = bind(model).shape
        facts = model_facts(model, self.context.recipe.promised().sequence)
        self.entries.append(
            Entry(
                name=name,
                kind=kind,
                variant=variant,
                graph=graph,
                predicted_ms=predicted_ms,
                heads=shape.n_heads,
                ffn_widths=shape.ffn_widths,
                encoder_parameters=facts["encoder_parameters"],
                encoder_macs=facts["encoder_macs"],
                **more,
            )
        )

    def _measured(self, watch: Stopwatch) -> dict[str, Any]:
        first = self.entries[0]
        proven = self._proven(watch.vocab_size)
        provider = self.reference.provider
        yardstick = Yardstick(self.context, OrtModel(first.graph, provider))
        points = []
        for done, (entry, found) in enumerate(zip(self.entries, proven, strict=True), start=1):
            kept = yardstick.kept(OrtModel(entry.graph, entry.variant.provider))
            points.append(_point(entry, first, found, kept))
            self._note_missed(points[-1])
            self.progress("frontier accuracy", done, len(self.entries))
        students = [
            p for p in points if p["kind"] == "student" and p["variant"] == first.variant.name
        ]
        return {
            "schema": 1,
            "model": self.context.recipe.model,
            "task": self.context.task.name,
            "metric": yardstick.metric,
            "examples": yardstick.examples,
            "workloads": str(self.context.mix),
            "environment": environment(),
            "reference": first.variant.name,
            "points": points,
            "knee": knee(students),
            "attempts": self.attempts,
            "missed": self.missed,
            "unreached": self.unreached,
            "refused": self.refused,
        }


def knee(students: Sequence[dict[str, Any]]) -> str | None:
    """The student after which what is kept falls fastest with measured speed-up."""
    ordered = sorted(students, key=lambda p: p["speedup"])
    place = knee_of([p["speedup"] for p in ordered], [p["retention"] for p in ordered])
    return None if place is None else str(ordered[place]["name"])


def _point(
    entry: Entry, dense: Entry, measured: MixedLatency, kept: dict[str, float]
) -> dict[str, Any]:
    facts = asdict(entry)
    facts["variant"] = entry.variant.name
    facts["graph"] = None
    predicted = entry.predicted_ms
    assert dense.predicted_ms is not None  # it comes from the table
    return facts | {
        "measured_ms": measured.milliseconds,
        **{name: getattr(measured, name) for name in _SPEEDUP},
        "others": measured.others,
        "predicted_speedup": None if predicted is None else dense.predicted_ms / predicted,
        **kept,
    }
