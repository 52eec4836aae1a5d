"""Contenders side by side, as one report: latency, memory, and accuracy where a task is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import Predicted, compare, in_task_order, predict
from benchmarks.environment import environment
from benchmarks.floor import floors
from benchmarks.gate import Gate, at_least, is_doubtful, undecided
from benchmarks.itself import Itself, compare_with_itself
from benchmarks.latency import OPENINGS, Latency, measure, speedup, workload_inputs
from benchmarks.neighbours import BUSY
from benchmarks.report.build import bench_report, speedups
from benchmarks.report.write import write_report
from benchmarks.rounds import Sampling
from benchmarks.runtimes.spec import open_runtime
from benchmarks.statistics import drift
from benchmarks.tasks import Dataset, Task, encode_labels
from compress.errors import DataError, RecipeError
from compress.model.batches import Progress
from compress.plan.workload import Workload
from compress_export.contenders import Entry, check_whole, contender_of, vocabulary
from compress_export.loading import labels_of, load_tokenizer
from compress_export.recipe import make_recipe
from compress_export.reports import PREDICTIONS
from compress_export.stages import content_key, file_hashes

__all__ = ["Bench", "Benched", "Judged", "against_itself", "run_bench"]

_DRIFT = 0.05
_WEIGHTS = frozenset({".onnx", ".onnx_data", ".data", ".safetensors"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A task to measure accuracy on."""

    task: Task
    data: Path | None
    max_length: int

    def dataset(self) -> Dataset:
        """Its validation data."""
        return self.task.load("validation", self.data)

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
        allow_cpu_nodes: Whether a session on a device may leave nodes to the CPU.
        openings: How many times all contenders are opened anew.
    """

    entries: tuple[Entry, ...]
    workloads: tuple[Workload, ...]
    sampling: Sampling
    isolated: bool = False
    judged: Judged | None = None
    allow_cpu_nodes: bool = False
    openings: int = OPENINGS


@dataclass(frozen=True, kw_only=True, slots=True)
class Benched:
    """A report of schema 1, and the answers that its accuracy is from, if it has one."""

    report: dict[str, Any]
    predicted: Predicted | None

    def write(self, folder: Path) -> None:
        """All of it, into a folder that exists."""
        write_report(self.report, None, folder)
        if self.predicted is not None:
            self.predicted.save(folder / PREDICTIONS)


def run_bench(bench: Bench, least: float | None, progress: Progress) -> Benched:
    """Measure all contenders.

    Args:
        bench: What.
        least: Gate: speed-up of the last contender over the first, under every workload.
        progress: Told how far it is.

    Raises:
        RecipeError: Two contenders have the same name and variant.
    """
    _check_names(bench.entries)
    for entry in () if bench.allow_cpu_nodes else bench.entries:
        check_whole(entry)
    latency = measure(
        [contender_of(entry, isolated=bench.isolated) for entry in bench.entries],
        bench.workloads,
        {w: workload_inputs(w, vocabulary(bench.entries)) for w in bench.workloads},
        dict.fromkeys(bench.workloads, bench.sampling),
        progress,
        bench.openings,
    )
    predicted, accuracy = _accuracy(bench, progress)
    ratios = speedups(latency, bench.entries[0].name, bench.entries[0].variant)
    report = bench_report(
        title=" · ".join(dict.fromkeys(entry.name for entry in bench.entries)),
        identity=_identity(bench),
        environment=environment()
        | {"isolated": bench.isolated, "copies": bench.entries[0].spec.copies},
        anchor=bench.entries[0].name,
        accuracy=accuracy,
        latency=latency,
        ratios=ratios,
        floors=_floors(bench),
        remarks=_remarks(latency, ratios, bench.sampling.precision),
        gates=_gates(bench, latency, least),
    )
    return Benched(report=report, predicted=predicted)


def _identity(bench: Bench) -> dict[str, str]:
    """Hashes of what two reports must share to be compared: the anchor's weights, the data."""
    path = bench.entries[0].spec.path
    folder = path.parent if path.is_file() else path
    files = folder.glob(f"{path.name}*" if path.is_file() else "*")
    weights = sorted(f for f in files if f.suffix in _WEIGHTS)
    found = {"anchor": content_key(file_hashes(weights, folder))}
    if bench.judged is not None:
        found["data"] = bench.judged.dataset().content_hash()
    return found


def against_itself(bench: Bench, runs: int, gate: float, progress: Progress) -> Itself:
    """Measure one contender beside itself, again and again.

    Args:
        bench: Of one contender and one workload.
        runs: How often.
        gate: Relative change that would be an alarm.
        progress: Told after every run.
    """
    (entry,), (workload,) = bench.entries, bench.workloads
    inputs = {workload: workload_inputs(workload, vocabulary([entry]))}
    check_whole(entry)
    sides = [contender_of(entry, isolated=bench.isolated) for _ in range(2)]
    found = []
    progress("runs", 0, runs)
    for done in range(1, runs + 1):
        one, other = measure(
            sides, [workload], inputs, {workload: bench.sampling}, openings=bench.openings
        )
        found.append((one, other))
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
    gates = []
    for group in groups:
        gate = at_least(f"speedup {group[0].workload}", least, *speedup(group[0], group[-1]))
        gates.append(undecided(gate) if is_doubtful(group[0]) else gate)
    return gates


def _remarks(
    latency: Sequence[Latency], ratios: Sequence[dict[str, Any]], precision: float
) -> list[str]:
    """What a reader should know before believing a figure."""
    found = []
    changes = [drift(sample.seconds) for sample in latency]
    moved = [change for change in changes if abs(change) > _DRIFT]
    if moved:
        found.append(
            f"{len(moved)} of {len(latency)} medians moved from the first half of the rounds to "
            f"the second, by {max(moved, key=abs):+.0%} at worst: something else was at work; "
            "ratios hold, milliseconds do not"
        )
    seen = [sample.others for sample in latency if sample.others is not None]
    if len(seen) < len(latency):
        found.append(
            "some measurements were too short to see what other processes took: gates on their "
            "time are inconclusive; give more --rounds"
        )
    others = max(seen, default=0.0)
    if others > BUSY:
        found.append(
            f"other processes took up to {others:.0%} of the cores meanwhile: gates on time are "
            "inconclusive; measure when the machine is idle"
        )
    wide = [_half_width(row) for row in ratios if _half_width(row) > precision]
    if wide:
        found.append(
            f"{len(wide)} of {len(ratios)} ratios are known to {max(wide):.1%} at worst, where "
            f"--precision asked for {precision:.1%}; give more --seconds, or more --openings"
        )
    return found


def _half_width(row: dict[str, Any]) -> float:
    return float(row["high"] - row["low"]) / 2 / float(row["ratio"])


def _floors(bench: Bench) -> list[dict[str, Any]]:
    graphs = {
        (entry.name, entry.variant): (entry.spec.path, entry.spec.provider)
        for entry in bench.entries
        if not entry.spec.runtime.startswith("torch")
    }
    return floors(graphs, bench.workloads)


def _accuracy(bench: Bench, progress: Progress) -> tuple[Predicted | None, list[dict[str, Any]]]:
    """What every contender answers, and how right that is; nothing where no task is named."""
    if bench.judged is None:
        return None, []
    dataset = bench.judged.dataset()
    predicted = _predict(dataset, bench.entries, bench.judged.max_length, progress)
    rows = [
        {"contender": contender, **row.to_dict()}
        for (contender, variant), logits in predicted.others.items()
        for row in compare(
            dataset, predicted.labels, predicted.anchor, logits,
            metrics=bench.judged.task.metrics, variant=variant,
        )
    ]  # fmt: skip
    return predicted, rows


def _predict(
    dataset: Dataset, entries: Sequence[Entry], max_length: int, progress: Progress
) -> Predicted:
    """Logits of every contender; the first is the anchor."""
    logits, labels = {}, []
    for entry in entries:
        names = labels_of(entry.folder)
        given = predict(
            open_runtime(entry.spec),
            load_tokenizer(entry.folder),
            dataset,
            max_length=max_length,
            label=f"accuracy ({entry.name} {entry.variant})",
            progress=progress,
        )
        own, found = in_task_order(dataset, names, encode_labels(dataset, names), given)
        labels.append(own)
        logits[entry.name, entry.variant] = found
    if not all(np.array_equal(labels[0], other) for other in labels):
        raise DataError(
            "contenders must order their labels alike, found different label2id in their "
            "config.json; compare a student with its own teacher"
        )
    anchor = next(iter(logits))
    return Predicted(labels=labels[0], anchor=logits[anchor], others=logits)
