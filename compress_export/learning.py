"""From a recipe's `recover` to a trained student: examples, objective, trainer, dev metrics."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.accuracy import in_task_order, predict
from benchmarks.runtimes.torch import TorchModel
from benchmarks.tasks import METRICS, Dataset, Texts, encode_labels, predictions
from compress.checkpoint.stored_plan import stored_plan
from compress.distillation.gradual import Closing, Gates, GradualSpec
from compress.distillation.identity import data_hash, fingerprint
from compress.distillation.layer_map import LayerMap
from compress.distillation.learner import Learner
from compress.distillation.objective import Objective
from compress.distillation.teacher_cache import TeacherCache
from compress.distillation.teacher_outputs import LiveTeacher, TeacherSource
from compress.errors import BundleError, RecipeError
from compress.model.batches import Progress, silent
from compress.model.binding import bind
from compress.model.surgery import apply_
from compress.plan.plan import Plan
from compress.training.processes import is_main, this_worker, wait_for_all
from compress.training.sharding import is_sharded
from compress.training.spec import TrainSpec
from compress.training.trainer import Examples, Held, TrainingHistory, train_
from compress_export.console import note
from compress_export.context import Context
from compress_export.loading import label2id
from compress_export.recipe_parts import ObjectivePart, Recover
from compress_export.stages import content_key
from compress_export.told import Told

__all__ = [
    "Course",
    "Learnt",
    "came_from",
    "check_tokenizers",
    "encoded",
    "learn",
    "metrics_of",
    "objective_of",
    "own_training",
    "teacher_of",
    "train_spec",
]

_HELD, _HELD_MOST = 0.05, 1000
_COMPARED = 256
"""Texts that two tokenizers are compared on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """What is learnt from, and how.

    Attributes:
        metrics: Names of the task's metrics; the first counts.
        dataset: Training examples.
        tokenizer: The student's.
        max_length: Tokens at which texts are cut.
        spec: Of the training.
        objective: What counts.
        store: What is kept of the teacher, where none is run.
        gradual: How the student is pruned while it learns, if it is.
    """

    metrics: tuple[str, ...]
    dataset: Dataset
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    spec: TrainSpec
    objective: Objective
    store: TeacherCache | None = None
    gradual: GradualSpec | None = None

    def examples(self, model: PreTrainedModel) -> list[dict[str, Any]]:
        """Token ids of each example, unpadded, its place in the data, its label if it has one.

        Texts that were added without labels stand last.
        """
        dataset = self.dataset
        rows = encoded(dataset.texts, self.tokenizer, self.max_length)
        rows = [row | {"row": i} for i, row in enumerate(rows)]
        if not dataset.labels:
            return rows
        kind = float if dataset.regression else int
        labels = encode_labels(dataset, label2id(model))
        labelled = [row | {"labels": kind(label)} for row, label in zip(rows, labels, strict=False)]
        return labelled + rows[len(labelled) :]

    def parts(self, examples: Examples) -> tuple[Examples, Held | None]:
        """What is trained on, and what is kept aside to stop early by."""
        if self.spec.patience is None:
            return examples, None
        n_labelled = len(self.dataset.labels)
        if not n_labelled:
            raise RecipeError(
                "recover.patience looks at a metric, found texts without labels; leave it out"
            )
        order = np.random.default_rng(self.spec.seed).permutation(n_labelled).tolist()
        n_held = max(1, min(_HELD_MOST, round(_HELD * n_labelled)))
        held = Held(examples=[examples[i] for i in order[:n_held]], metric=self.metric)
        left = [*order[n_held:], *range(n_labelled, len(examples))]
        return [examples[i] for i in left], held

    def metric(self, logits: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
        """The task's first metric."""
        return METRICS[self.metrics[0]](labels, predictions(logits.astype(np.float32)))

    def collate(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """A padded batch, with what the store has of it."""
        inputs = [{k: v for k, v in e.items() if k not in ("row", "labels")} for e in examples]
        batch = dict(self.tokenizer.pad(inputs, return_tensors="pt"))
        if all("labels" in e for e in examples):
            batch["labels"] = torch.tensor([e["labels"] for e in examples])
        if self.store is not None:
            batch |= self.store.stored_outputs([e["row"] for e in examples])
        return batch

    def key(
        self, student: PreTrainedModel, teaching: TeacherSource | None, plan: Plan | None
    ) -> str:
        """Hash of all that a training depends on."""
        return content_key(
            {
                "spec": asdict(replace(self.spec, gradient_checkpointing=False)),
                "objective": asdict(self.objective),
                "data": data_hash(encoded(self.dataset.texts, self.tokenizer, self.max_length)),
                "labels": self.dataset.labels,
                "metrics": self.metrics,
                "student": fingerprint(student),
                "teacher": None if teaching is None else teaching.identity,
                "plan": None if plan is None else plan.to_dict(),
                "store": repr(self.store and self.store.metadata),
                "gradual": repr(self.gradual),
            }
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Learnt:
    """What a training led to.

    Attributes:
        curve: Of the loss.
        plan: What was pruned meanwhile, if anything was.
    """

    curve: TrainingHistory
    plan: Plan | None = None


def encoded(
    texts: Sequence[Texts], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[dict[str, Any]]:
    """What the tokenizer gives of each text, unpadded."""
    columns = [list(column) for column in zip(*texts, strict=True)]
    found = tokenizer(*columns, truncation=True, max_length=max_length)
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def learn(
    student: PreTrainedModel,
    course: Course,
    *,
    teaching: TeacherSource | None = None,
    plan: Plan | None = None,
    home: Path | None = None,
    progress: Progress,
) -> Learnt:
    """Train `student`, in place.

    Args:
        student: In evaluation mode afterwards, on the CPU.
        course: What is learnt.
        teaching: The teacher, or what is kept of one.
        plan: How the student came from this teacher.
        home: Where checkpoints go, so that a killed training goes on; what another training left
            there is dropped.
        progress: Told after every step.
    """
    if course.gradual is not None:
        _check_gradual(course.spec)
    gates = None if course.gradual is None else Gates(bind(student), course.gradual)
    torch.manual_seed(course.spec.seed)  # of new projections
    learner = Learner(student, course.objective, teaching, plan, gates)
    examples, held = course.parts(course.examples(student))
    if home is not None:
        if is_main():
            key = course.key(student, teaching, plan)
            own_training(home, f"{key}-sharded" if is_sharded() else key)
        wait_for_all()
    told = [] if progress is silent else [Told()]
    curve = train_(
        learner,
        course.tokenizer,
        examples,
        course.spec,
        held=held,
        collate=course.collate,
        folder=home,
        callbacks=[*told, *([] if gates is None else [Closing(gates, note)])],
        progress=progress,
    )
    if teaching is not None:
        teaching.rest()
    if gates is None:
        return Learnt(curve=curve)
    apply_(student, gates.plan)
    if is_main():
        note(f"pruned to {gates.share:.1%} of the encoder's {gates.unit}")
    return Learnt(curve=curve, plan=gates.plan)


def _check_gradual(spec: TrainSpec) -> None:
    found = {"gradient checkpointing": spec.gradient_checkpointing, "FSDP": is_sharded()}
    for name, is_on in found.items():
        if is_on:
            raise RecipeError(
                f"--prune-to watches whole activations and weights while it trains, found it under "
                f"{name}; prune first (`prune`), then distil"
            )


def metrics_of(
    model: PreTrainedModel, course: Course, dataset: Dataset, progress: Progress
) -> dict[str, float]:
    """The task's metrics of a live model on `dataset`."""
    logits = predict(
        TorchModel(model),
        course.tokenizer,
        dataset,
        max_length=course.max_length,
        progress=progress,
    )
    names = label2id(model)
    labels, logits = in_task_order(dataset, names, encode_labels(dataset, names), logits)
    return {name: METRICS[name](labels, predictions(logits)) for name in course.metrics}


def train_spec(recover: Recover, seed: int) -> TrainSpec:
    """The part of a recipe that `compress.training.trainer` takes."""
    given = recover.model_dump(exclude={"objective", "report_to", "teacher_device"})
    trackers = None if recover.report_to is None else tuple(recover.report_to)
    return TrainSpec(seed=seed, report_to=trackers, **given)


def objective_of(part: ObjectivePart, plan: Plan | None) -> Objective:
    """The part of a recipe that a `Learner` takes; layers by default as `plan` pairs them."""
    layers: LayerMap = part.layers or ("uniform" if plan is None else "source")
    return Objective(layers=layers, **part.model_dump(exclude={"layers"}))


def teacher_of(context: Context) -> LiveTeacher:
    """The context's teacher, to be run on every batch as the recipe's `recover` says.

    Raises:
        RecipeError: There is no such device.
    """
    recover = context.recipe.recover
    device = None if recover.teacher_device is None else _device(recover.teacher_device)
    part = recover.objective
    listens = bool(part.attention or part.relations)
    return LiveTeacher(context.teacher, projections=listens, device=device)


def _device(name: str) -> torch.device:
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(
            f"recover.teacher_device must be a device of this machine, found {name!r}: "
            f"{str(error).splitlines()[0][:160]}; name another, or leave it out"
        ) from error
    count = this_worker().count
    if device.type != "cpu" and count > 1:
        raise RecipeError(
            f"recover.teacher_device must be cpu where {count} processes train, found {name!r}; "
            "leave it out, and each has a teacher beside its student"
        )
    return device


def came_from(student: PreTrainedModel, teacher: PreTrainedModel) -> Plan | None:
    """The plan by which `student` came from a model of the teacher's shape, if it did."""
    plan = stored_plan(student.config)
    return plan if plan is not None and plan.shape == bind(teacher).shape else None


def check_tokenizers(
    student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, texts: Sequence[Texts]
) -> None:
    """Refuse a student that cuts texts into other tokens than its teacher.

    Raises:
        RecipeError: Their vocabularies differ, or what they make of a text.
    """
    if student.get_vocab() != teacher.get_vocab():
        raise RecipeError(
            f"student and teacher must share a tokenizer, found vocabularies of {len(student)} and "
            f"{len(teacher)} tokens that differ; choose a student with the teacher's tokenizer"
        )
    for text in texts[:_COMPARED]:
        mine, theirs = (t(*text)["input_ids"] for t in (student, teacher))
        if mine != theirs:
            raise RecipeError(
                f"student and teacher must cut texts alike, found {len(mine)} and {len(theirs)} "
                f"tokens for {text[0]!r:.60}; give the student the teacher's tokenizer"
            )


def own_training(home: Path, key: str) -> None:
    """Make `home` the folder of the training with that key; an earlier training there is dropped.

    Raises:
        BundleError: It holds something else.
    """
    mark = home / "training.key"
    if home.exists() and not mark.is_file() and any(home.iterdir()):
        raise BundleError(
            f"{home} must be the working folder of an earlier training, found other files; move "
            "them away"
        )
    if mark.is_file() and mark.read_text(encoding="utf-8") != key:
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    mark.write_text(key, encoding="utf-8")
