"""GLUE and the user's own data: columns, loading, labels, metrics, tokens."""

from __future__ import annotations

from typing import TypeAlias

from benchmarks.tasks.dataset import Dataset, Split, Texts, encode_labels
from benchmarks.tasks.files import FileTask, TextTask
from benchmarks.tasks.glue import GLUE, GlueTask, glue_task
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
    "encode_labels",
    "glue_task",
    "predictions",
    "text_lengths",
    "tokenise",
]

Task: TypeAlias = GlueTask | FileTask | TextTask
