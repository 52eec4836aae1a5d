"""What the stages of a run share: teacher, tokenizer, data, and what each stage depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.environment import machine
from benchmarks.profile import Effort
from benchmarks.runtimes.onnxruntime import CUDA, cuda_available
from benchmarks.statistics import samples_needed
from benchmarks.tasks import Dataset, Split, Task, TextTask, encode_labels, glue_task, text_lengths
from compress.checkpoint.checkpoint import load, save
from compress.errors import DataError
from compress.files.folder import sha256, versions
from compress.model.batches import Batch, Progress
from compress.model.binding import bind
from compress.model.pooling import Pooling, read_pooling
from compress.model.task_head import head_of
from compress.plan.cost import Prices
from compress.plan.latency_table import LatencyTable
from compress.plan.plan import Plan
from compress.plan.workload import Mix, length_mix
from compress.pruner.pruner import Pruner
from compress.pruner.schedule import after_drop, check_budget, check_shape
from compress_export.loading import (
    calibration_batches,
    check_length,
    label2id,
    load_tokenizer,
    local_folder,
    located,
)
from compress_export.recipe import Recipe
from compress_export.remote import resolve
from compress_export.stages import RESULTS, content_key, file_hashes
from compress_export.tables import TableSource, latency_tables
from export.graph.inputs import input_names, longest_sequence
from export.graph.outputs import Feeds
from export.precision.variants import Variant

__all__ = ["LEAST_SAMPLES", "SPLITS", "Context"]

LEAST_SAMPLES, FEEDS = 15, 16

SPLITS: tuple[Split, ...] = ("train", "validation")
Reader: TypeAlias = Callable[[str], PreTrainedModel]


class Context:
    """A recipe with its model and data, each loaded when it is first asked for.

    Args:
        recipe: What to do.
        base: The folder that the recipe's relative paths are taken from.
        reader: Loads the model; by default all of it into memory.
    """

    def __init__(self, recipe: Recipe, base: Path, reader: Reader = load) -> None:
        self.recipe, self.base, self._reader = recipe, base, reader
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
        self._check_budget()
        self._check_lengths()
        _ = self.tokenizer
        for split in splits:
            self.labels(self.dataset(split))
        self._check_devices()
        self._check_table()

    def _check_table(self) -> None:
        if self.recipe.target.table is not None:
            LatencyTable.load(self.base / self.recipe.target.table)

    def _check_budget(self) -> None:
        layout, spec = bind(self.teacher), self.recipe.prune_spec()
        check_shape(layout, spec)
        if self.recipe.goal() is None:
            check_budget(layout, after_drop(layout, spec), self.counted(), self.budget(), spec)

    def _check_head(self) -> None:
        head, prune = head_of(self.teacher), self.recipe.prune
        if isinstance(self.task, TextTask):
            if prune.labels == "given" or (prune.method == "michel" and prune.labels is None):
                raise DataError(
                    f"prune.score {prune.method!r} reads given labels, found "
                    "task.texts, which has none; use obs, fisher, activation or magnitude"
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
                "(`--texts FILE`)"
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
            "target.sequence": self.recipe.promised().sequence,
            "benchmark.sequences": max(settings.sequences),
            "benchmark.max_length": settings.max_length,
        }
        if isinstance(self.recipe.target.mix, list):
            lengths["target.mix"] = max(point.sequence for point in self.recipe.target.mix)
        for field, length in lengths.items():
            check_length(self.teacher, field, length)

    @cached_property
    def model_source(self) -> str:
        """The teacher's folder, or its Hub id."""
        return located(self.recipe.model, self.base)

    @cached_property
    def teacher(self) -> PreTrainedModel:
        """The user's model."""
        return self._reader(self.model_source)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The teacher's."""
        return load_tokenizer(self.model_source)

    @cached_property
    def pooling(self) -> Pooling | None:
        """How an embedding model pools, as its folder says; for other models none."""
        if not head_of(self.teacher).embeds:
            return None
        return read_pooling(local_folder(self.model_source))

    def save(self, model: PreTrainedModel, plan: Plan, folder: Path) -> None:
        """Write a student with what belongs to it: the teacher's tokenizer and way to pool."""
        save(model, plan, folder, self.tokenizer, pooling=self.pooling)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Inputs of the graphs."""
        return input_names(self.teacher, self.tokenizer.model_input_names)

    @cached_property
    def mix(self) -> Mix:
        """The workloads that a measured target is about."""
        given = self.recipe.mix()
        if given is not None:
            return given
        recipe = self.recipe
        sample = self.dataset("train").sample(recipe.prune.calibration_examples, recipe.seed)
        lengths = text_lengths(sample.texts, self.tokenizer, recipe.benchmark.max_length)
        longest = longest_sequence(self.teacher) or max(lengths)
        return length_mix(lengths, recipe.target.batch, longest)

    def tables(
        self, variants: Sequence[Variant], effort: Effort, progress: Progress
    ) -> dict[str, LatencyTable]:
        """Latency tables of the variants, given, cached or measured."""
        target = self.recipe.target
        file = None if target.table is None else self.base / target.table
        source = TableSource(file=file, force=target.force_table)
        return latency_tables(
            self.teacher, self.names, variants, self.mix.workloads, source, effort, progress
        )

    def counted(self) -> Prices:
        """What sizes cost in operations or parameters, as the recipe counts them."""
        return self.recipe.cost().prices(bind(self.teacher).shape)

    def budget(self) -> float:
        """What the student may cost, in the unit of `counted`."""
        return self.recipe.share() * self.counted().total(bind(self.teacher).shape)

    def pruner(self, prices: Prices, progress: Progress) -> Pruner:
        """A pruner of the teacher over the calibration data."""
        spec = self.recipe.prune_spec(self.pooling)
        return Pruner(self.teacher, self.calibration(), prices, spec, progress)

    def dataset(self, split: Split) -> Dataset:
        """One split of the task's data, read once."""
        if split not in self._datasets:
            data = self.recipe.data and resolve(self.base, self.recipe.data)
            self._datasets[split] = self.task.load(split, data)
        return self._datasets[split]

    def take(self, count: int) -> None:
        """Go on with so many training examples, drawn by the recipe's seed."""
        self._datasets["train"] = self.dataset("train").sample(count, self.recipe.seed)

    def add(self, texts: Path) -> None:
        """Train on the texts of a file too, one example a line, without labels.

        Raises:
            DataError: It cannot be read, or holds pairs where the task has single texts.
        """
        whole, more = self.dataset("train"), TextTask(texts=texts).load("train")
        if len(more.texts[0]) != len(whole.texts[0]):
            raise DataError(
                f"{texts} must hold {len(whole.texts[0])} text(s) a line, as the task does, found "
                f"{len(more.texts[0])}; part the two texts of a pair by a tab"
            )
        self._datasets["train"] = replace(whole, texts=whole.texts + more.texts)

    def similar_pairs(self) -> Dataset | None:
        """STS-B's dev pairs, to judge embeddings by, where the recipe says where GLUE is."""
        if self.recipe.data is None:
            return None
        task = glue_task("stsb")
        assert task is not None  # one of the nine
        return task.load("validation", self.base / self.recipe.data)

    def held_out(self) -> Dataset:
        """Texts that calibration leaves aside: a tenth, 1,000 at most; all if fewer than 20."""
        whole = self.dataset("train")
        return self._part(whole, slice(0, self._n_held or None))

    def _training(self) -> Dataset:
        """What calibration draws from."""
        whole = self.dataset("train")
        return self._part(whole, slice(self._n_held, None)) if self._n_held else whole

    @property
    def _n_held(self) -> int:
        if not isinstance(self.task, TextTask):
            return 0
        count = len(self.dataset("train"))
        return min(count // 10, 1000) if count >= 20 else 0

    def _part(self, whole: Dataset, part: slice) -> Dataset:
        """A part of texts without labels, once they are shuffled."""
        order = np.random.default_rng(self.recipe.seed).permutation(len(whole))[part]
        return replace(whole, texts=tuple(whole.texts[i] for i in order), labels=())

    def labels(self, dataset: Dataset) -> NDArray[np.float64]:
        """The data's labels as the teacher's ids; none where the data has none."""
        if not dataset.labels:
            return np.zeros(0)
        return encode_labels(dataset, label2id(self.teacher))

    def calibration(self) -> list[Batch]:
        """The batches that scores and repair look at."""
        recipe = self.recipe
        sample = self._training().sample(recipe.prune.calibration_examples, recipe.seed)
        length = recipe.benchmark.max_length
        labels = self.labels(sample)
        return calibration_batches(sample, labels, self.tokenizer, length, recipe.seed)

    def feeds_for(self, variants: Sequence[Variant]) -> Feeds:
        """Calibration inputs as graphs take them; none where no variant is int8."""
        if not any(variant.int8 for variant in variants):
            return ()
        batches = self.calibration()[:FEEDS]
        return [{name: batch[name].numpy() for name in self.names} for batch in batches]

    @property
    def least_samples(self) -> int:
        """Latency samples at the target's workload: enough to bound each promised percentile."""
        limits = self.recipe.promises()["latency_ms"]
        promised = [name for name, limit in limits.items() if limit is not None]
        return max([LEAST_SAMPLES, *(samples_needed(float(name[1:])) for name in promised)])

    def _table_key(self) -> str:
        table = self.recipe.target.table
        found = None if table is None else self.base / table
        return sha256(found) if found is not None and found.is_file() else ""

    @cached_property
    def keys(self) -> dict[str, str]:
        """What each stage depends on, as one hash a stage."""
        recipe, folder = self.recipe, Path(self.model_source)
        model = {
            "weights": file_hashes([folder], folder) if folder.is_dir() else self.model_source,
            "versions": versions(),
            "results": RESULTS,
        }
        student = content_key(
            {
                "model": model,
                "data": _data_key(self.dataset("train")),
                "spec": recipe.prune,
                "target": recipe.target,
                "table": self._table_key(),
                "seed": recipe.seed,
                "where": machine() if recipe.goal() else None,
                "examples": recipe.prune.calibration_examples,
                "cut": recipe.benchmark.max_length,
            }
        )
        bundle = content_key({"student": student, "variants": recipe.exported()})
        recover = content_key({"student": student, "how": recipe.learnt()})
        teacher = content_key({"model": model, "variant": recipe.reference()})
        measured = {"bundle": bundle, "teacher": teacher, "cuda": cuda_available()}
        accuracy = {
            "data": _data_key(self.dataset("validation")),
            "task": (self.task.name, self.task.metrics),
            "cut": recipe.benchmark.max_length,
            "disagreements": recipe.benchmark.disagreements,
        }
        latency = {
            "how": recipe.benchmark,
            "where": (recipe.target, machine()),
            "least": self.least_samples,
        }
        return {
            "prune": student,
            "recover": recover,
            "bundle": bundle,
            "teacher": teacher,
            "accuracy": content_key(measured | accuracy),
            "latency": content_key(measured | latency),
        }


def _data_key(dataset: Dataset) -> str:
    return content_key({"texts": dataset.texts, "labels": dataset.labels})
