"""What a run measures of its graphs: accuracy, latency, memory, and which heads matter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.accuracy import (
    Predicted,
    compare,
    disagreements,
    doubt,
    in_task_order,
    predict,
)
from benchmarks.environment import environment
from benchmarks.floor import floors
from benchmarks.latency import Contender, Prepare, measure, workload_inputs
from benchmarks.memory import measure_memory
from benchmarks.placement import check_on_device
from benchmarks.report.build import ANCHOR
from benchmarks.rounds import Sampling
from benchmarks.runtimes.onnxruntime import OrtModel
from compress.model.batches import Progress
from compress.model.binding import bind
from compress.plan.workload import Workload
from compress.saliency.scorers import scorer
from compress_export.context import LEAST_SAMPLES, Context
from compress_export.loading import label2id
from compress_export.proof import prove

__all__ = ["Graph", "head_importance", "measure_accuracy", "measure_latency"]

_IMPORTANCE_BATCHES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """A graph that runs here: whose it is, and where.

    Attributes:
        contender: `teacher` or `student`.
        folder: Of the variant, and named like it.
        provider: That it runs on.
    """

    contender: str
    folder: Path
    provider: str

    @property
    def name(self) -> str:
        """In predictions and progress."""
        return ANCHOR if self.contender == ANCHOR else self.folder.name

    def open(self) -> OrtModel:
        """A session."""
        return OrtModel(self.folder, self.provider)

    @property
    def contending(self) -> Contender:
        """As something to measure."""
        return Contender(
            name=self.contender,
            variant=self.folder.name,
            provider=self.provider,
            open=self.opened,
        )

    @contextmanager
    def opened(self) -> Iterator[Prepare]:
        """A session for the length of a context, to be timed."""
        yield self.open().prepare


def measure_accuracy(
    context: Context, graphs: Sequence[Graph], reference: str, predicted: Path, progress: Progress
) -> dict[str, Any]:
    """Every metric of every variant, beside the teacher's on the same examples.

    Args:
        context: Whose validation data is used.
        graphs: The teacher's first.
        reference: The variant whose disagreements with the teacher are listed.
        predicted: File to keep labels and logits in.
        progress: Told how far each graph is.
    """
    dataset = context.dataset("validation")
    own, names = context.labels(dataset), label2id(context.teacher)
    labels, logits = own, {}
    for graph in graphs:
        given = predict(
            graph.open(),
            context.tokenizer,
            dataset,
            max_length=context.recipe.benchmark.max_length,
            label=f"accuracy ({graph.name})",
            progress=progress,
        )
        labels, logits[graph.name] = in_task_order(dataset, names, own, given)
    teacher = logits.pop(ANCHOR)
    others = {("student", name): found for name, found in logits.items()}
    Predicted(labels=labels, anchor=teacher, others=others).save(predicted)
    rows = [
        row
        for name, student in logits.items()
        for row in compare(
            dataset, labels, teacher, student, metrics=context.task.metrics, variant=name
        )
    ]
    most = context.recipe.benchmark.disagreements
    differ = (
        disagreements(dataset, labels, teacher, logits[reference], most)
        if most and reference in logits
        else []
    )
    return {
        "accuracy": [row.to_dict() for row in rows],
        "disagreements": differ,
        "doubt": doubt(dataset, labels, teacher),
    }


def measure_latency(
    context: Context, graphs: Sequence[Graph], reference: str, progress: Progress
) -> dict[str, Any]:
    """Latency of all graphs under all workloads, memory under the promised one.

    Args:
        context: Whose recipe says which workloads, and how exactly.
        graphs: The teacher's first.
        reference: The variant that a promise over `target.mix` is about.
        progress: Told how far it is.
    """
    settings, promised = context.recipe.benchmark, context.recipe.promised()
    grid = {Workload(batch=b, sequence=s) for b in settings.batches for s in settings.sequences}
    workloads = sorted(grid | {promised})
    vocabulary = int(context.teacher.config.vocab_size)
    for graph in graphs:
        check_on_device(graph.folder, graph.provider, vocabulary)
    measured = measure(
        [graph.contending for graph in graphs],
        workloads,
        {w: workload_inputs(w, vocabulary) for w in workloads},
        {w: _sampling(context, w) for w in workloads},
        progress,
        settings.openings,
    )
    proof = None
    if context.recipe.target.mix is not None:
        for graph in (g for g in graphs[1:] if g.folder.name == reference):
            pair = [graphs[0].contending, graph.contending]
            _, found = prove(
                pair, context.mix, vocabulary, settings.precision, settings.openings, progress
            )
            proof = found.to_dict()
    memory = []
    progress("memory", 0, len(graphs))
    for graph in graphs:
        memory.append(
            measure_memory(
                graph.contender, graph.folder.name, graph.folder, graph.provider, promised,
                vocabulary,
            )
        )  # fmt: skip
        progress("memory", len(memory), len(graphs))
    return {
        "samples": [sample.to_samples() for sample in measured],
        "proof": proof,
        "floors": floors(
            {(g.contender, g.folder.name): (g.folder, g.provider) for g in graphs}, workloads
        ),
        "memory": [m.to_dict() for m in memory],
        "environment": environment(),
    }


def head_importance(context: Context, progress: Progress) -> dict[str, Any]:
    """Fisher importance of the teacher's heads on a part of the calibration data.

    Whatever method pruned, this picture is the same kind: squared gradients of head gates, labels
    sampled from the model, `sqrt` taken and scaled so that the largest is 1.
    """
    batches = list(islice(context.calibration(), _IMPORTANCE_BATCHES))
    scores = scorer("fisher", context.recipe.seed)(bind(context.teacher), batches, progress)
    rows = [[float(max(value, 0.0)) ** 0.5 for value in layer] for layer in scores.heads]
    largest = max((value for row in rows for value in row), default=0.0) or 1.0
    return {
        "kind": scores.kind,
        "examples": scores.examples,
        "heads": [[round(value / largest, 4) for value in row] for row in rows],
    }


def _sampling(context: Context, workload: Workload) -> Sampling:
    settings = context.recipe.benchmark
    promised = workload == context.recipe.promised()
    least = context.least_samples if promised else LEAST_SAMPLES
    return Sampling(
        precision=settings.precision,
        rounds=max(settings.rounds, least),
        least=least,
        seconds=settings.seconds,
    )
