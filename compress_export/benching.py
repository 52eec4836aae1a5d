"""Contenders side by side, as one report: latency, memory, and accuracy where a task is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import compare, predict
from benchmarks.environment import environment
from benchmarks.gate import Gate, at_least
from benchmarks.itself import Itself, compare_with_itself
from benchmarks.latency import Latency, measure, speedup, workload_inputs
from benchmarks.report.build import bench_report, speedups
from benchmarks.rounds import Sampling, interleaved
from benchmarks.statistics import drift
from benchmarks.tasks import Task, encode_labels
from compress.batches import Progress
from compress.errors import DataError, RecipeError
from compress.workload import Workload
from compress_export.contenders import Entry, Opened, opened, vocabulary
from compress_export.loading import labels_of, load_tokenizer
from compress_export.recipe import make_recipe

__all__ = ["Bench", "Judged", "against_itself", "run_bench"]

_DRIFT = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A task to measure accuracy on."""

    task: Task
    data: Path | None
    max_length: int

    @classmethod
    def by(cls, task: str | dict[str, Any], data: Path | None, max_length: int) -> Judged:
        """From a task as the user names it, see `options.task_of`."""
        recipe = make_recipe({"model": "-", "task": task, "data": data})
        return cls(task=recipe.resolve_task(Path()), data=data, max_length=max_length)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """What to measure.

    Attributes:
        entries: Contenders; the first is the anchor of all ratios.
        workloads: In the order of the report.
        sampling: When to stop, for each workload.
        isolated: Each contender in a process of its own.
        judged: Accuracy is measured too, if given.
    """

    entries: tuple[Entry, ...]
    workloads: tuple[Workload, ...]
    sampling: Sampling
    isolated: bool = False
    judged: Judged | None = None


def run_bench(bench: Bench, least: float | None, progress: Progress) -> dict[str, Any]:
    """Measure, and give a report of schema 1.

    Args:
        bench: What.
        least: Gate: speed-up of the last contender over the first, under every workload.
        progress: Told how far it is.

    Raises:
        RecipeError: Two contenders have the same name and variant.
    """
    _check_names(bench.entries)
    inputs = {w: workload_inputs(w, vocabulary(bench.entries)) for w in bench.workloads}
    with opened(bench.entries, isolated=bench.isolated, progress=progress) as contenders:
        latency = measure(
            [opened.contender() for opened in contenders],
            bench.workloads,
            inputs,
            dict.fromkeys(bench.workloads, bench.sampling),
            progress,
        )
        accuracy = _accuracy(bench.judged, contenders, progress)
    ratios = speedups(latency, bench.entries[0].name, bench.entries[0].variant)
    return bench_report(
        title=" · ".join(dict.fromkeys(entry.name for entry in bench.entries)),
        environment=environment()
        | {"isolated": bench.isolated, "copies": bench.entries[0].spec.copies},
        anchor=bench.entries[0].name,
        accuracy=accuracy,
        latency=latency,
        ratios=ratios,
        remarks=_remarks(latency, ratios, bench.sampling.precision),
        gates=_gates(bench, latency, least),
    )


def against_itself(
    entry: Entry, workload: Workload, sampling: Sampling, runs: int, gate: float, progress: Progress
) -> Itself:
    """Open a contender twice, time both, and do it all again `runs` times."""
    inputs = workload_inputs(workload, vocabulary([entry]))
    found = []
    progress("runs", 0, runs)
    for done in range(1, runs + 1):
        with opened([entry, entry], isolated=False, progress=lambda *_: None) as sides:
            calls = [side.runtime.prepare(inputs) for side in sides]
            found.append(interleaved(calls, sampling.enough))
        progress("runs", done, runs)
    return compare_with_itself(found, gate)


def _check_names(entries: Sequence[Entry]) -> None:
    places = [(entry.name, entry.variant) for entry in entries]
    for place in places:
        if places.count(place) > 1:
            raise RecipeError(
                f"contenders must differ in name or variant, found {place[0]!r} twice; write "
                f"NAME={place[0]}, or use --aa to compare one with itself"
            )


def _gates(bench: Bench, latency: Sequence[Latency], least: float | None) -> list[Gate]:
    if least is None:
        return []
    n = len(bench.entries)
    groups = [latency[i : i + n] for i in range(0, len(latency), n)]
    return [
        at_least(f"speedup {group[0].workload}", least, *speedup(group[0], group[-1]))
        for group in groups
    ]


def _remarks(
    latency: Sequence[Latency], ratios: Sequence[dict[str, Any]], precision: float
) -> list[str]:
    """What a reader should know before believing a figure."""
    found = []
    for sample in latency:
        change = drift(sample.seconds)
        if abs(change) > _DRIFT:
            found.append(
                f"{sample.contender} {sample.variant} at {sample.workload}: the second half of its "
                f"rounds took {1 + change:.2f} times the first; ratios hold, milliseconds do not"
            )
    wide = [_half_width(row) for row in ratios if _half_width(row) > precision]
    if wide:
        found.append(
            f"{len(wide)} of {len(ratios)} ratios are known to {max(wide):.1%} at worst, where "
            f"--precision asked for {precision:.1%}; give more --seconds"
        )
    return found


def _half_width(row: dict[str, Any]) -> float:
    return float(row["high"] - row["low"]) / 2 / float(row["ratio"])


def _accuracy(
    judged: Judged | None, contenders: Sequence[Opened], progress: Progress
) -> list[dict[str, Any]]:
    if judged is None:
        return []
    dataset = judged.task.load("validation", judged.data)
    logits, labels = [], []
    for contender in contenders:
        folder = contender.entry.folder
        labels.append(encode_labels(dataset, labels_of(folder)))
        logits.append(
            predict(
                contender.runtime,
                load_tokenizer(folder),
                dataset,
                max_length=judged.max_length,
                label=f"accuracy ({contender.entry.name} {contender.entry.variant})",
                progress=progress,
            )
        )
    if not all(np.array_equal(labels[0], other) for other in labels):
        raise DataError(
            "contenders must order their labels alike, found different label2id in their "
            "config.json; compare a student with its own teacher"
        )
    return [
        {"contender": contender.entry.name, **row.to_dict()}
        for contender, found in zip(contenders, logits, strict=True)
        for row in compare(
            dataset, labels[0], logits[0], found,
            metrics=judged.task.metrics, variant=contender.entry.variant,
        )
    ]  # fmt: skip
