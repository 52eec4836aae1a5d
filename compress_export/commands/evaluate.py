"""`evaluate`: a bundle's accuracy through ONNX Runtime, and what it keeps of a teacher's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.accuracy import compare_seeds, doubt, in_task_order, predict
from benchmarks.gate import Gate, at_least, undecided
from benchmarks.runtimes.onnxruntime import OrtModel
from benchmarks.tasks import METRICS, Dataset, encode_labels, predictions
from compress.errors import DataError, RecipeError
from compress_export.benching import Judged
from compress_export.console import note, out, progress, table
from compress_export.exits import STATUS
from compress_export.loading import find_graph, labels_of, load_tokenizer


def run(
    bundles: list[Path],
    task_name: str | dict[str, Any],
    data: Path | None,
    against: Path | None,
    variant: str | None,
    retention: float | None,
    max_length: int,
    *,
    as_json: bool,
) -> None:
    """Print the task's metrics of `bundles`, beside those of `against` if it is given."""
    if retention is not None and against is None:
        raise RecipeError("--retention needs --against, found none; name the teacher's bundle")
    judged = Judged.by(task_name, data, max_length)
    dataset, metrics = judged.dataset(), judged.task.metrics
    found = [_logits(find_graph(bundle, variant), dataset, max_length) for bundle in bundles]
    labels = found[0][1]
    if against is None:
        values = {
            m: float(np.mean([METRICS[m](own, predictions(logits)) for logits, own in found]))
            for m in metrics
        }
        _print([[m, f"{v:.4f}"] for m, v in values.items()], ["metric", "value"], values, as_json)
        return
    teacher, teacher_labels = _logits(find_graph(against), dataset, max_length)
    for bundle, (_, own) in zip(bundles, found, strict=True):
        if not np.array_equal(own, teacher_labels):
            raise DataError(
                f"{bundle} and {against} must order their labels alike, found another label2id in "
                "each config.json; compare a student with its own teacher"
            )
    name = variant or bundles[0].name
    students = [logits for logits, _ in found]
    rows = compare_seeds(dataset, labels, teacher, students, metrics=metrics, variant=name)
    cells = [
        [r.metric, f"{r.teacher:.4f}", f"{r.student:.4f}", f"{r.retention:.1%}",
         f"{r.low:.1%} to {r.high:.1%}", "–" if r.mcnemar is None else f"{r.mcnemar:.2g}"]
        for r in rows
    ]  # fmt: skip
    gates = [] if retention is None else [
        at_least("retention", retention, rows[0].retention, rows[0].low, rows[0].high)
    ]  # fmt: skip
    doubtful = doubt(dataset, labels, teacher)
    if doubtful is not None:
        note(doubtful)
        gates = [undecided(gate) for gate in gates]
    facts = {
        "accuracy": [row.to_dict() for row in rows],
        "students": len(students),
        "gates": [gate.to_dict() for gate in gates],
    }
    header = ["metric", "teacher", "student", "kept", "95 % interval", "McNemar's p"]
    if len(students) > 1:
        header[2] = f"mean of {len(students)}"
    _print(cells, header, facts, as_json)
    _leave(gates, as_json)


def _logits(graph: Path, dataset: Dataset, max_length: int) -> tuple[NDArray[Any], NDArray[Any]]:
    names = labels_of(graph.parent)
    labels = encode_labels(dataset, names)
    with progress() as report:
        logits = predict(
            OrtModel(graph),
            load_tokenizer(graph.parent),
            dataset,
            max_length=max_length,
            label=f"accuracy ({graph.parent.name})",
            progress=report,
        )
    labels, logits = in_task_order(dataset, names, labels, logits)
    return logits, labels


def _print(cells: list[list[str]], header: list[str], facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps(facts))
    else:
        table("accuracy", header, cells)


def _leave(gates: list[Gate], as_json: bool) -> None:
    for gate in gates:
        if not as_json:
            out.print(f"gate {gate.name} ≥ {gate.threshold:g}: {gate.verdict}")
        if STATUS[gate.verdict]:
            raise typer.Exit(STATUS[gate.verdict])
