"""What the stages of a run share: teacher, tokenizer, data, and what each stage depends on."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.runtimes.onnxruntime import cuda_available
from benchmarks.tasks import Dataset, Task, encode_labels
from compress.checkpoint import load
from compress.errors import DataError
from compress.layout import bind
from compress.prune import check_budget
from compress_export.loading import label2id, load_tokenizer
from compress_export.recipe import Recipe
from compress_export.stages import content_key, file_hashes

__all__ = ["VALIDATION", "Context"]

VALIDATION = "validation"


class Context:
    """A recipe with its model and data, each loaded when it is first asked for.

    Args:
        recipe: What to do.
        base: The folder that the recipe's relative paths are taken from.
    """

    def __init__(self, recipe: Recipe, base: Path) -> None:
        self.recipe, self.base = recipe, base
        self.task: Task = recipe.resolve_task(base)

    def check(self) -> None:
        """Find what is wrong with model, data and target before any work is done.

        Raises:
            ToolchainError: Of the kind that fits; the message names field, value and remedy.
        """
        check_budget(bind(self.teacher), self.recipe.prune_spec())
        for split in ("train", VALIDATION):
            encode_labels(self.dataset(split), label2id(self.teacher))
        _ = self.tokenizer
        if self.recipe.target.device == "cuda" and not cuda_available():
            raise DataError(
                "target.device is 'cuda', found no CUDA device that ONNX Runtime can use; "
                "run `compress-export doctor`, or set target.device to cpu"
            )

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

    def dataset(self, split: str) -> Dataset:
        """One split of the task's data."""
        data = self.recipe.data
        where = None if data is None else data if data.is_absolute() else self.base / data
        return self.task.load(split, where)  # type: ignore[arg-type]

    @cached_property
    def keys(self) -> dict[str, str]:
        """What each stage reads, as one hash a stage."""
        recipe = self.recipe
        folder = Path(self.model_source)
        model = file_hashes([folder], folder) if folder.is_dir() else self.model_source
        train, validation = self.dataset("train"), self.dataset(VALIDATION)
        prune_key = content_key(
            {
                "model": model,
                "data": content_key({"texts": train.texts, "labels": train.labels}),
                "spec": recipe.prune_spec(),
                "examples": recipe.prune.calibration_examples,
                "max_length": recipe.benchmark.max_length,
            }
        )
        names = [v.name for v in recipe.variants()]
        bundle = content_key({"student": prune_key, "variants": names})
        teacher = content_key({"model": model, "variant": recipe.reference().name})
        graphs = {"bundle": bundle, "teacher": teacher}
        data = content_key({"texts": validation.texts, "labels": validation.labels})
        measured = {"benchmark": recipe.benchmark, "target": recipe.target}
        return {
            "prune": prune_key,
            "bundle": bundle,
            "teacher": teacher,
            "accuracy": content_key(graphs | {"data": data, "cut": recipe.benchmark.max_length}),
            "latency": content_key(graphs | measured),
        }
