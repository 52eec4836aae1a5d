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
from transformers import AutoConfig, AutoTokenizer

from benchmarks.accuracy import predict
from benchmarks.runtimes.onnxruntime import OrtModel
from benchmarks.tasks import METRICS, encode_labels, glue_task, predictions, tokenise

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
    import onnxsim

    model = onnx.load(graph)
    model = onnxsim.apply_attention_head_wanda_pruning(model, data, sparsity=sparsity)
    onnx.save(onnxsim.apply_structured_wanda_pruning(model, data, sparsity=sparsity), out)


def main(source: str, task_name: str, glue: str, teacher: str, *students: str) -> None:
    """Print one line a student: its parameters and accuracy, and the peer's at the same size."""
    task = glue_task(task_name)
    assert task is not None
    tokenizer = AutoTokenizer.from_pretrained(source)
    dense = Path(teacher) / "onnx" / "cpu-fp32" / "model.onnx"
    names = OrtModel(dense).names
    sample = task.load("train", Path(glue)).sample(EXAMPLES, seed=0)
    batches = tokenise(sample.texts, tokenizer, batch_size=32, max_length=128)
    data = [{name: batch.inputs[name] for name in names} for batch in batches]
    validation = task.load("validation", Path(glue))
    label2id = AutoConfig.from_pretrained(source).label2id
    labels = encode_labels(validation, label2id)

    def accuracy(graph: Path) -> float:
        logits = predict(OrtModel(graph), tokenizer, validation, max_length=128)
        return METRICS[task.metrics[0]](labels, predictions(logits))

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
