"""What a student kept, whatever the data says: a task's metrics, or nearness to the teacher.

With labels, the task's own metrics. Without, what the teacher itself gives is the measure: the
share of texts on which both choose alike, the rank correlation of scores, and for embedding models
cosines and neighbours.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from benchmarks.accuracy import predict, retention_interval
from benchmarks.runtimes.onnxruntime import OrtModel
from benchmarks.tasks import METRICS, Dataset, TextTask, predictions, tokenise
from compress.heads import head_of
from compress.pooling import Pooling
from compress_export.context import Context

__all__ = ["Yardstick", "can_judge", "neighbour_overlap"]

Array: TypeAlias = NDArray[np.float32]

NEIGHBOURS = 10


class Yardstick:
    """The teacher's outputs on data that no student was fitted to, and what is kept of them.

    Args:
        context: Of the teacher and its task.
        teacher: The unpruned model's graph.
    """

    def __init__(self, context: Context, teacher: OrtModel) -> None:
        self.context = context
        self.unlabelled = isinstance(context.task, TextTask)
        embeds = head_of(context.teacher).embeds
        self._pooling = (context.pooling or Pooling()) if embeds else None
        self.dataset = self._dataset()
        self._teacher = self._outputs(teacher)

    @property
    def metric(self) -> str:
        """The name of what is compared."""
        if not self.unlabelled:
            return self.context.task.metrics[0]
        if self._pooling:
            return "mean cosine"
        return "rank correlation" if self.context.teacher.config.num_labels == 1 else "agreement"

    def kept(self, student: OrtModel) -> dict[str, float]:
        """The metric of teacher and student, what is kept, and more where there is more.

        Returns:
            `teacher`, `student`, `retention`, and a 95 % interval `low` and `high` for a task with
            labels; `neighbours` for embedding models.
        """
        outputs = self._outputs(student)
        if not self.unlabelled:
            return self._of_task(outputs)
        if self._pooling is None:
            before, after = predictions(self._teacher), predictions(outputs)
            name = "spearman" if self.metric == "rank correlation" else "accuracy"
            same = METRICS[name](before, after)
            return {"teacher": 1.0, "student": same, "retention": same}
        cosines = (_unit(self._teacher) * _unit(outputs)).sum(1)
        return {
            "teacher": 1.0,
            "student": float(cosines.mean()),
            "retention": float(cosines.mean()),
            "neighbours": neighbour_overlap(self._teacher, outputs),
        }

    def _of_task(self, outputs: Array) -> dict[str, float]:
        labels = self.context.labels(self.dataset)
        compute = METRICS[self.metric]
        before, after = predictions(self._teacher), predictions(outputs)
        teacher, student = compute(labels, before), compute(labels, after)
        low, high = retention_interval(self.metric, labels, before, after)
        kept = student / teacher if teacher > 0 else 0.0
        return {
            "teacher": teacher, "student": student, "retention": kept, "low": low, "high": high
        }  # fmt: skip

    def _dataset(self) -> Dataset:
        if not self.unlabelled:
            return self.context.dataset("validation")
        return self.context.held_out()

    def _outputs(self, model: OrtModel) -> Array:
        context = self.context
        length = context.recipe.benchmark.max_length
        if self._pooling is None:
            return predict(model, context.tokenizer, self.dataset, max_length=length)
        pooling = self._pooling
        found: list[Array] = [np.zeros(0, np.float32)] * len(self.dataset)
        batches = tokenise(self.dataset.texts, context.tokenizer, batch_size=32, max_length=length)
        for batch in batches:
            hidden = torch.from_numpy(model(batch.inputs))
            vectors = pooling(hidden, torch.from_numpy(batch.inputs["attention_mask"])).numpy()
            for row, vector in zip(batch.rows, vectors, strict=True):
                found[int(row)] = vector
        return np.stack(found)


def can_judge(model: PreTrainedModel) -> bool:
    """Whether a `Yardstick` knows what to compare: one output a text, or token states to pool."""
    return head_of(model).suffix == "ForSequenceClassification" or head_of(model).embeds


def neighbour_overlap(teacher: Array, student: Array, count: int = NEIGHBOURS) -> float:
    """Mean share of each text's nearest texts by the teacher that are the student's too.

    Args:
        teacher: Vectors, `(texts, hidden_size)`.
        student: Of the same texts.
        count: How many neighbours, itself not counted; fewer where there are fewer texts.
    """
    near = [_neighbours(vectors, count) for vectors in (teacher, student)]
    shared = [len(set(a) & set(b)) for a, b in zip(*near, strict=True)]
    return float(np.mean(shared)) / max(min(count, len(teacher) - 1), 1)


def _neighbours(vectors: Array, count: int) -> list[list[int]]:
    unit = _unit(vectors)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -np.inf)
    count = min(count, len(unit) - 1)
    nearest: list[list[int]] = np.argpartition(-likeness, count - 1, axis=1)[:, :count].tolist()
    return nearest


def _unit(vectors: Array) -> Array:
    unit: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
