"""Two ways of pruning at equal measured latency: what each keeps, one read between its students.

python benchmarks/results/equal_latency.py MODEL TASK GLUE TEACHER OURS... -- THEIRS...

Each name but MODEL is a bundle with `onnx/cpu-fp32`, or a folder with `cpu-fp32`. All are timed
in one interleaved session, 8 x 64 tokens. At the speed-up of each of OURS, what THEIRS keep is
read from the line through their points and the unpruned model's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from transformers import AutoConfig, AutoTokenizer

from benchmarks.accuracy import predict
from benchmarks.profile import Effort, measure_graphs
from benchmarks.runtimes.onnxruntime import OrtModel
from benchmarks.significance import retention_interval
from benchmarks.tasks import METRICS, encode_labels, glue_task, predictions
from compress.plan.workload import Workload

WORKLOAD = Workload(batch=8, sequence=64)


def graph_of(bundle: str) -> Path:
    """The float32 graph of a bundle."""
    inner = Path(bundle) / "onnx"
    return (inner if inner.is_dir() else Path(bundle)) / "cpu-fp32" / "model.onnx"


def divergence(teacher: NDArray[np.float32], student: NDArray[np.float32]) -> float:
    """Mean KL divergence in nats; of one number, the mean squared difference."""
    if teacher.shape[1] == 1:
        return float(((teacher - student) ** 2).mean())
    before, after = log_softmax(teacher, axis=1), log_softmax(student, axis=1)
    return float((np.exp(before) * (before - after)).sum(1).mean())


def between(points: Sequence[dict[str, Any]], field: str, speedup: float) -> float | None:
    """What lies at that speed-up on straight lines between the points; nothing beyond them."""
    ordered = sorted(points, key=lambda point: float(point["speedup"]))
    if speedup > ordered[-1]["speedup"]:
        return None
    return float(np.interp(speedup, [p["speedup"] for p in ordered], [p[field] for p in ordered]))


def main(source: str, task_name: str, glue: str, teacher: str, *bundles: str) -> None:
    """Print every point, and at each speed-up of ours both methods side by side."""
    task = glue_task(task_name)
    assert task is not None
    n_ours = bundles.index("--")
    names = [name for name in (teacher, *bundles) if name != "--"]
    graphs = [graph_of(name) for name in names]
    config, tokenizer = AutoConfig.from_pretrained(source), AutoTokenizer.from_pretrained(source)
    provider = "CPUExecutionProvider"
    effort = Effort(precision=0.005, seconds=60.0)
    took = measure_graphs(graphs, WORKLOAD, provider, config.vocab_size, effort).milliseconds
    validation = task.load("validation", Path(glue))
    labels = encode_labels(validation, config.label2id)
    outputs = [predict(OrtModel(graph), tokenizer, validation, max_length=128) for graph in graphs]
    metric = task.metrics[0]
    found = [predictions(output) for output in outputs]
    scores = [METRICS[metric](labels, chosen) for chosen in found]
    points: list[dict[str, Any]] = [
        {
            "student": name,
            "speedup": float(took[0] / ms),
            metric: score,
            "kept": score / scores[0],
            "interval": retention_interval(metric, labels, found[0], [chosen]),
            "divergence": divergence(outputs[0], output),
        }
        for name, ms, score, chosen, output in zip(names, took, scores, found, outputs, strict=True)
    ]
    dense, ours, theirs = points[0], points[1 : n_ours + 1], points[n_ours + 1 :]
    compared = [
        {"speedup": own["speedup"]}
        | {
            f"{field}, {who}": value
            for field in ("kept", "divergence")
            for who, value in (
                ("ours", own[field]),
                ("theirs", between([dense, *theirs], field, own["speedup"])),
            )
        }
        for own in ours
    ]
    facts = {"task": task.name, "points": points, "at_equal_latency": compared}
    sys.stdout.write(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
