"""What the stages of a run share: teacher, tokenizer, data, and what each stage depends on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.environment import machine
from benchmarks.latency import samples_needed
from benchmarks.runtimes.onnxruntime import CUDA, cuda_available
from benchmarks.tasks import Dataset, Split, Task, TextTask, encode_labels
from compress.batches import Batch
from compress.binding import bind
from compress.checkpoint import load
from compress.errors import DataError
from compress.folder import versions
from compress.heads import head_of
from compress.importance import GradientScore
from compress.prune import check_budget
from compress_export.loading import calibration_batches, check_length, label2id, load_tokenizer
from compress_export.recipe import Recipe
from compress_export.stages import content_key, file_hashes

__all__ = ["LEAST_SAMPLES", "SPLITS", "Context"]

LEAST_SAMPLES = 15

SPLITS: tuple[Split, ...] = ("train", "validation")


class Context:
    """A recipe with its model and data, each loaded when it is first asked for.

    Args:
        recipe: What to do.
        base: The folder that the recipe's relative paths are taken from.
    """

    def __init__(self, recipe: Recipe, base: Path) -> None:
        self.recipe, self.base = recipe, base
        self.task: Task = recipe.resolve_task(base)
        self._datasets: dict[Split, Dataset] = {}

    def check(self, splits: Sequence[Split] = SPLITS) -> None:
        """Find what is wrong with model, data and target before any work is done.

        Args:
            splits: Of the data, those that will be read.

        Raises:
            ToolchainError: Of the kind that fits; the message names field, value and remedy.
        """
        self._check_head()
        check_budget(bind(self.teacher), self.recipe.prune_spec())
        self._check_lengths()
        _ = self.tokenizer
        for split in splits:
            self.labels(self.dataset(split))
        self._check_devices()

    def _check_head(self) -> None:
        head, score = head_of(self.teacher), self.recipe.prune_spec().score
        if isinstance(self.task, TextTask):
            given = score.labels == "given" if isinstance(score, GradientScore) else None
            if given or score == "michel":
                raise DataError(
                    f"prune.score {self.recipe.prune.score!r} reads given labels, found "
                    "task.texts, which has none; use fisher, activation or magnitude"
                )
            if head.choices:
                raise DataError(
                    "task.texts cannot calibrate a multiple-choice model, found "
                    f"{type(self.teacher).__name__}; call compress.prune with batches of "
                    "(batch, choices, sequence)"
                )
        elif head.suffix != "ForSequenceClassification":
            raise DataError(
                f"model must be a sequence classifier or regressor for task {self.task.name!r}, "
                f"found {type(self.teacher).__name__}; prune it on texts without labels "
                "(`prune --texts FILE`)"
            )

    def _check_devices(self) -> None:
        if cuda_available():
            return
        if self.recipe.target.device == "cuda":
            raise DataError(
                "target.device is 'cuda', found no CUDA device that ONNX Runtime can use; "
                "run `compress-export doctor`, or set target.device to cpu"
            )
        variants = self.recipe.variants()
        if all(variant.provider == CUDA for variant in variants):
            raise DataError(
                f"export.variants must hold one that this machine can run, found "
                f"{[v.name for v in variants]} and no CUDA device; add cpu-fp32 or portable"
            )

    def _check_lengths(self) -> None:
        settings = self.recipe.benchmark
        lengths = {
            "target.sequence": self.recipe.target.sequence,
            "benchmark.sequences": max(settings.sequences),
            "benchmark.max_length": settings.max_length,
        }
        for field, length in lengths.items():
            check_length(self.teacher, field, length)

    @cached_property
    def model_source(self) -> str:
        """The teacher's folder, or its Hub id."""
        local = self.base / self.recipe.model
        return str(local) if local.exists() else self.recipe.model

    @cached_property
    def teacher(self) -> PreTrainedModel:
        """The user's model."""
        return load(self.model_source)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The teacher's."""
        return load_tokenizer(self.model_source)

    def dataset(self, split: Split) -> Dataset:
        """One split of the task's data, read once."""
        if split not in self._datasets:
            data = self.recipe.data
            self._datasets[split] = self.task.load(
                split, None if data is None else self.base / data
            )
        return self._datasets[split]

    def labels(self, dataset: Dataset) -> NDArray[np.float64]:
        """The data's labels as the teacher's ids; none where the data has none."""
        if not dataset.labels:
            return np.zeros(0)
        return encode_labels(dataset, label2id(self.teacher))

    def calibration(self) -> list[Batch]:
        """The batches that scores and repair look at."""
        recipe = self.recipe
        sample = self.dataset("train").sample(recipe.prune.calibration_examples, recipe.seed)
        length = recipe.benchmark.max_length
        labels = self.labels(sample)
        return calibration_batches(sample, labels, self.tokenizer, length, recipe.seed)

    @property
    def least_samples(self) -> int:
        """Latency samples at the target's workload: enough to bound each promised percentile."""
        promised = self.recipe.gate.latency_ms.model_dump(exclude_none=True)
        return max([LEAST_SAMPLES, *(samples_needed(float(name[1:])) for name in promised)])

    @cached_property
    def keys(self) -> dict[str, str]:
        """What each stage depends on, as one hash a stage."""
        recipe, folder = self.recipe, Path(self.model_source)
        cut = recipe.benchmark.max_length
        model = {
            "weights": file_hashes([folder], folder) if folder.is_dir() else self.model_source,
            "versions": versions(),
        }
        student = content_key(
            {
                "model": model,
                "data": _data_key(self.dataset("train")),
                "spec": recipe.prune_spec(),
                "examples": recipe.prune.calibration_examples,
                "cut": cut,
            }
        )
        bundle = content_key({"student": student, "variants": recipe.variants()})
        teacher = content_key({"model": model, "variant": recipe.reference()})
        measured = {"bundle": bundle, "teacher": teacher, "cuda": cuda_available()}
        accuracy = {
            "data": _data_key(self.dataset("validation")),
            "task": (self.task.name, self.task.metrics),
            "cut": recipe.benchmark.max_length,
        }
        latency = {
            "how": recipe.benchmark,
            "where": recipe.target,
            "machine": machine(),
            "least": self.least_samples,
        }
        return {
            "prune": student,
            "bundle": bundle,
            "teacher": teacher,
            "accuracy": content_key(measured | accuracy),
            "latency": content_key(measured | latency),
        }


def _data_key(dataset: Dataset) -> str:
    return content_key({"texts": dataset.texts, "labels": dataset.labels})
