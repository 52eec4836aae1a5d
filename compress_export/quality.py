"""What a student kept, whatever the data says: a task's metrics, or nearness to the teacher.

With labels, the task's own metrics. Without, what the teacher itself gives is the measure: the
share of texts on which both choose alike, the rank correlation of scores, and for embedding models
cosines and neighbours, or STS-B where GLUE is at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from benchmarks.accuracy import predict
from benchmarks.runtimes.onnxruntime import OrtModel
from benchmarks.significance import retention_interval
from benchmarks.tasks import METRICS, Dataset, Texts, TextTask, encode_labels, predictions, tokenise
from compress.model.pooling import Pooling
from compress.model.task_head import head_of
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
        self.dataset = context.held_out() if self.unlabelled else context.dataset("validation")
        self.pairs = context.similar_pairs() if embeds else None
        self._teacher = self._outputs(teacher)
        self._likeness = None if self.pairs is None else self._cosines(teacher, self.pairs)

    @property
    def metric(self) -> str:
        """The name of what is compared."""
        if not self.unlabelled:
            return self.context.task.metrics[0]
        if self.pairs is not None:
            return "STS-B spearman"
        if self._pooling:
            return "mean cosine"
        return "rank correlation" if self.context.teacher.config.num_labels == 1 else "agreement"

    @property
    def examples(self) -> int:
        """How many texts or pairs the metric is over."""
        return len(self.dataset if self.pairs is None else self.pairs)

    def kept(self, student: OrtModel) -> dict[str, float]:
        """The metric of teacher and student, what is kept, and more where there is more.

        Returns:
            `teacher`, `student`, `retention`; a 95 % interval `low` and `high` where there are
            labels; `cosine` and `neighbours` for embedding models.
        """
        outputs = self._outputs(student)
        if not self.unlabelled:
            labels = self.context.labels(self.dataset)
            return _kept(self.metric, labels, predictions(self._teacher), predictions(outputs))
        if self._pooling is not None:
            return self._of_vectors(student, outputs)
        before, after = predictions(self._teacher), predictions(outputs)
        name = "spearman" if self.metric == "rank correlation" else "accuracy"
        same = METRICS[name](before, after)
        return {"teacher": 1.0, "student": same, "retention": same}

    def _of_vectors(self, student: OrtModel, vectors: Array) -> dict[str, float]:
        cosine = float((_unit(self._teacher) * _unit(vectors)).sum(1).mean())
        near = {"cosine": cosine, "neighbours": neighbour_overlap(self._teacher, vectors)}
        if self.pairs is None or self._likeness is None:
            return {"teacher": 1.0, "student": cosine, "retention": cosine} | near
        labels, likeness = (
            encode_labels(self.pairs, {"score": 0}),
            self._cosines(student, self.pairs),
        )
        return _kept("spearman", labels, self._likeness, likeness) | near

    def _cosines(self, model: OrtModel, pairs: Dataset) -> NDArray[np.float64]:
        """Of the two texts of each pair: `(pairs,)`."""
        first, second = (
            self._vectors(model, [(texts[i],) for texts in pairs.texts]) for i in range(2)
        )
        cosines: NDArray[np.float64] = (_unit(first) * _unit(second)).sum(1, dtype=np.float64)
        return cosines

    def _outputs(self, model: OrtModel) -> Array:
        if self._pooling is not None:
            return self._vectors(model, self.dataset.texts)
        length = self.context.recipe.benchmark.max_length
        return predict(model, self.context.tokenizer, self.dataset, max_length=length)

    def _vectors(self, model: OrtModel, texts: Sequence[Texts]) -> Array:
        """Pooled, `(texts, hidden_size)`."""
        assert self._pooling is not None  # it embeds
        length, tokenizer = self.context.recipe.benchmark.max_length, self.context.tokenizer
        found: list[Array] = [np.zeros(0, np.float32)] * len(texts)
        for batch in tokenise(texts, tokenizer, batch_size=32, max_length=length):
            hidden = torch.from_numpy(model(batch.inputs))
            mask = torch.from_numpy(batch.inputs["attention_mask"])
            for row, vector in zip(batch.rows, self._pooling(hidden, mask).numpy(), strict=True):
                found[int(row)] = vector
        return np.stack(found)


def _kept(
    metric: str, labels: NDArray[np.float64], before: NDArray[np.float64],
    after: NDArray[np.float64],
) -> dict[str, float]:  # fmt: skip
    teacher, student = METRICS[metric](labels, before), METRICS[metric](labels, after)
    low, high = retention_interval(metric, labels, before, [after])
    kept = student / teacher if teacher > 0 else 0.0
    return {"teacher": teacher, "student": student, "retention": kept, "low": low, "high": high}


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
