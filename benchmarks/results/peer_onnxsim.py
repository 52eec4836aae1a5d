"""onnxsim's Wanda head and channel pruning at shares of the encoder's parameters, as a peer.

python benchmarks/results/peer_onnxsim.py MODEL TASK GLUE TEACHER_ONNX STUDENT_ONNX...

Needs onnxsim 0.8. Both kinds of pruning get the same sparsity, found by bisection so that the
encoder has the share of parameters that each given student has; calibration on the same training
sentences. Nothing is retrained on either side.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxsim

from benchmarks.accuracy import predict
from benchmarks.runtimes.onnxruntime import OrtModel
from benchmarks.tasks import METRICS, predictions
from compress_export.context import Context
from compress_export.recipe import make_recipe

EXAMPLES = 512


def parameters(graph: Path) -> int:
    """Elements of all floating-point initialisers."""
    return sum(
        int(np.prod(tensor.dims))
        for tensor in onnx.load(graph).graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    )


def pruned(graph: Path, sparsity: float, data: list[dict[str, Any]], out: Path) -> None:
    """Heads, then channels, both by Wanda's score."""
    model = onnx.load(graph)
    model = onnxsim.apply_attention_head_wanda_pruning(model, data, sparsity=sparsity)
    onnx.save(onnxsim.apply_structured_wanda_pruning(model, data, sparsity=sparsity), out)


def main(source: str, task: str, glue: str, teacher: str, *students: str) -> None:
    """Print one line a student: its parameters and accuracy, and the peer's at the same size."""
    recipe: dict[str, Any] = {"model": source, "task": task, "data": glue}
    recipe["prune"] = {"calibration_examples": EXAMPLES}
    context = Context(make_recipe(recipe), Path())
    dense = Path(teacher) / "onnx" / "cpu-fp32" / "model.onnx"
    names = OrtModel(dense).names
    data = [{n: batch[n].numpy() for n in names} for batch in context.calibration()]
    validation = context.dataset("validation")
    labels = context.labels(validation)

    def accuracy(graph: Path) -> float:
        logits = predict(OrtModel(graph), context.tokenizer, validation, max_length=128)
        return METRICS[context.task.metrics[0]](labels, predictions(logits))

    base = accuracy(dense)
    out = Path("peer.onnx")
    for student in students:
        graph = Path(student) / "onnx" / "cpu-fp32" / "model.onnx"
        wanted = parameters(graph)
        low, high = 0.0, 0.95
        for _ in range(7):
            middle = (low + high) / 2
            pruned(dense, middle, data, out)
            low, high = (middle, high) if parameters(out) > wanted else (low, middle)
        pruned(dense, high, data, out)
        print(  # noqa: T201
            f"{student}: ours {wanted:,} parameters, {accuracy(graph) / base:.4f} kept; "
            f"onnxsim {parameters(out):,}, {accuracy(out) / base:.4f} kept at sparsity {high:.3f}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
