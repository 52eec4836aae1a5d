"""GLUE and the user's own data: columns, loading, labels, metrics, tokens."""

from __future__ import annotations

from typing import TypeAlias

from benchmarks.tasks.dataset import Dataset, Split, Texts
from benchmarks.tasks.files import FileTask, TextTask
from benchmarks.tasks.glue import GLUE, GlueTask, glue_task
from benchmarks.tasks.labels import class_names, encode_labels, is_unnamed, task_order
from benchmarks.tasks.metrics import METRICS, predictions
from benchmarks.tasks.tokens import Encoded, TokenBatch, text_lengths, tokenise

__all__ = [
    "GLUE",
    "METRICS",
    "Dataset",
    "Encoded",
    "FileTask",
    "GlueTask",
    "Split",
    "Task",
    "TextTask",
    "Texts",
    "TokenBatch",
    "class_names",
    "encode_labels",
    "glue_task",
    "is_unnamed",
    "predictions",
    "task_order",
    "text_lengths",
    "tokenise",
]

Task: TypeAlias = GlueTask | FileTask | TextTask
