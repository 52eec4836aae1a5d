"""One task, as studies see it: data, fine-tuning, and how well a live model does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.accuracy import predict
from benchmarks.runtimes.torch import TorchModel
from benchmarks.tasks import (
    METRICS,
    Dataset,
    GlueTask,
    Split,
    Task,
    TextTask,
    encode_labels,
    predictions,
)
from benchmarks.tasks.files import FileTask
from compress.distillation.objective import Objective
from compress.distillation.teacher_outputs import TeacherSource
from compress.errors import RecipeError
from compress.model.batches import Batch, silent
from compress.plan.plan import Plan
from compress.training.spec import TrainSpec
from compress_export.learning import Course
from compress_export.loading import calibration_batches, label2id, load_for, load_tokenizer
from compress_export.options import task_of
from compress_export.recipe import make_recipe
from compress_export.schooling import Pupil, train_seeds
from compress_export.studies.luck import floor_of

__all__ = ["LABELS", "Lessons", "TaskData", "task_given"]

LABELS = Objective(labels=1.0, logits=0.0, hidden=0.0)
"""Fine-tuning: nothing but the task's labels counts."""


def task_given(given: str) -> Task:
    """A GLUE task by its name, or one's own by a YAML file.

    Raises:
        RecipeError: It is neither, or has no labels.
    """
    task = make_recipe({"model": "-", "task": task_of(given)}).resolve_task(Path())
    if isinstance(task, TextTask):
        raise RecipeError(f"--task must have labels, found bare texts in {given}; name another")
    return task


@dataclass(frozen=True, kw_only=True, slots=True)
class Lessons:
    """What every training and every look at a task takes.

    Attributes:
        task: What it is called.
        given: A GLUE task's name, or a YAML file.
        data: Folder of GLUE's TSV folders; none for the Hub.
        max_length: Tokens at which texts are cut.
        train: Training examples, at most.
        judge: Validation examples, at most.
        epochs, learning_rate, batch_size: Of a fine-tuning.
    """

    task: str
    given: str
    data: str | None
    max_length: int = 128
    train: int | None = None
    judge: int | None = None
    epochs: int = 3
    learning_rate: float = 5e-5
    batch_size: int = 32

    def files(self) -> tuple[str, ...]:
        """What is read of the task, where it is on this machine."""
        task = task_given(self.given)
        if isinstance(task, FileTask):
            return self.given, str(task.train), str(task.validation)
        if not isinstance(task, GlueTask) or self.data is None:
            return ()
        folder = Path(self.data) / task.folder
        return str(folder / "train.tsv"), str(folder / task.validation[0])


class TaskData:
    """A task's splits, read once, and what is done with them.

    Args:
        lessons: Which task, how much of it.
    """

    def __init__(self, lessons: Lessons) -> None:
        self.lessons, self.task = lessons, task_given(lessons.given)

    @cached_property
    def train(self) -> Dataset:
        """Training examples, drawn by a fixed seed."""
        return self._split("train", self.lessons.train)

    @cached_property
    def validation(self) -> Dataset:
        """What models are judged by."""
        return self._split("validation", self.lessons.judge)

    def _split(self, split: Split, most: int | None) -> Dataset:
        data = None if self.lessons.data is None else Path(self.lessons.data)
        whole = self.task.load(split, data)
        if not whole.label_names and not whole.regression:  # a sample may lack a rare one
            whole = replace(whole, label_names=tuple(sorted(set(whole.labels))))
        return whole if most is None else whole.sample(most, 0)

    def check(self) -> None:
        """Read both splits, and find labels that no training example has.

        Raises:
            DataError: A file, a column or a label is wrong.
        """
        names = list(self.train.label_names)
        label2id = {"score": 0} if self.train.regression else {n: i for i, n in enumerate(names)}
        for dataset in (self.train, self.validation):
            encode_labels(replace(dataset, label_names=self.train.label_names), label2id)

    @property
    def metric(self) -> str:
        """The name of the task's first metric."""
        return self.task.metrics[0]

    @property
    def floor(self) -> float:
        """What the first metric must be above, see `luck.floor_of`."""
        names = {name: i for i, name in enumerate(self.train.label_names)} or {"score": 0}
        judged = replace(self.validation, label_names=self.train.label_names)
        return floor_of(self.metric, encode_labels(judged, names))

    def batches(
        self, model: PreTrainedModel, source: str | Path, count: int, seed: int
    ) -> list[Batch]:
        """Training examples with labels, as scores and masks look at them."""
        sample = self.train.sample(count, seed)
        labels = encode_labels(sample, label2id(model))
        return calibration_batches(
            sample, labels, load_tokenizer(source), self.lessons.max_length, seed
        )

    def logits(self, model: PreTrainedModel, source: str | Path) -> NDArray[np.float32]:
        """On the validation examples, `(examples, n_labels)`."""
        return predict(
            TorchModel(model),
            load_tokenizer(source),
            self.validation,
            max_length=self.lessons.max_length,
        )

    def judged(self, model: PreTrainedModel, source: str | Path) -> float:
        """The first metric on the validation examples."""
        labels = encode_labels(self.validation, label2id(model))
        return METRICS[self.metric](labels, predictions(self.logits(model, source)))

    def fine_tuned(
        self,
        source: str,
        seed: int,
        out: Path,
        *,
        prune: Callable[[PreTrainedModel], Plan | None] = lambda _: None,
        base: Callable[[], PreTrainedModel] | None = None,
        objective: Objective = LABELS,
        teaching: TeacherSource | None = None,
    ) -> float:
        """Fine-tune a model into `out` and give its first metric; not again what is there.

        Args:
            source: Checkpoint, and its tokenizer.
            seed: Of head, order and dropout.
            out: Folder of the checkpoint.
            prune: Cuts the model in place before it is trained, and says what it kept.
            base: Gives the model to train, if not `source` with a head for the task.
            objective: What counts.
            teaching: A teacher, where one counts.
        """
        tokenizer = load_tokenizer(source)

        def make(number: int) -> Pupil:
            torch.manual_seed(number)  # of a new head
            model = load_for(source, self.train) if base is None else base()
            removed = prune(model)
            return Pupil(
                model=model,
                course=self._course(tokenizer, number, objective),
                tokenizer=tokenizer,
                origin=removed,
                removed=removed,
            )

        (trained,) = train_seeds(make, [seed], out, self.validation, teaching, silent)
        return trained.metrics[self.metric]

    def _course(
        self, tokenizer: PreTrainedTokenizerBase, seed: int, objective: Objective
    ) -> Course:
        lessons = self.lessons
        spec = TrainSpec(
            epochs=lessons.epochs,
            learning_rate=lessons.learning_rate,
            batch_size=lessons.batch_size,
        )
        return Course(
            metrics=self.task.metrics,
            dataset=self.train,
            tokenizer=tokenizer,
            max_length=lessons.max_length,
            spec=replace(spec, seed=seed),
            objective=objective,
        )
