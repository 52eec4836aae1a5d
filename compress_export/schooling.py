"""One student a seed: trained, judged on the validation split, written to disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.tasks import Dataset
from compress.checkpoint.checkpoint import load, load_config, save
from compress.checkpoint.stored_plan import stored_plan
from compress.checkpoint.tokenizer import save_tokenizer
from compress.distillation.gradual import GradualSpec
from compress.distillation.identity import data_hash, tokenizer_hash
from compress.distillation.objective import Objective
from compress.distillation.teacher_cache import TeacherCache
from compress.distillation.teacher_outputs import CachedTeacher, LiveTeacher, TeacherSource
from compress.errors import RecipeError
from compress.files.folder import writing
from compress.files.places import locked, work_folder
from compress.model.batches import Progress
from compress.model.binding import bind
from compress.model.pooling import Pooling, write_pooling
from compress.plan.plan import Plan
from compress.training.processes import is_main, wait_for_all
from compress.training.trainer import TrainingHistory
from compress_export.console import out as console
from compress_export.console import table
from compress_export.context import Context
from compress_export.learning import (
    Course,
    came_from,
    check_tokenizers,
    encoded,
    learn,
    metrics_of,
    objective_of,
    teacher_of,
    train_spec,
)
from compress_export.loading import check_labels, label_names, load_tokenizer, take_labels_

__all__ = ["Pupil", "School", "Trained", "print_trained", "train_seeds"]

NOTES = "training.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pupil:
    """An untrained student.

    Attributes:
        model: To train.
        course: What it learns.
        tokenizer: Its own; its teacher's may give further inputs.
        origin: How it came from its teacher, if it did.
        removed: What has just gone from it, and is written nowhere yet.
        pooling: Of an embedding model.
    """

    model: PreTrainedModel
    course: Course
    tokenizer: PreTrainedTokenizerBase
    origin: Plan | None = None
    removed: Plan | None = None
    pooling: Pooling | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """One training.

    Attributes:
        seed: Of it.
        folder: The checkpoint.
        metrics: On the validation split; none where there are no labels.
        curve: Of the loss.
    """

    seed: int
    folder: Path
    metrics: dict[str, float]
    curve: TrainingHistory


class School:
    """What all students of one teacher share.

    Args:
        context: Of the teacher; of the student itself where there is a store.
        student: A checkpoint.
        store: What is kept of the teacher.
        gradual: How students are pruned while they learn, if they are.
    """

    def __init__(
        self,
        context: Context,
        student: str,
        store: TeacherCache | None,
        gradual: GradualSpec | None,
    ) -> None:
        self.context, self.student, self.store = context, student, store
        self.gradual = gradual
        load_config(student)  # tells best what is wrong with a folder
        self.tokenizer = load_tokenizer(student)
        self._check_options()
        self.teaching: TeacherSource = self._online() if store is None else self._offline(store)

    def _check_options(self) -> None:
        recover, dataset = self.context.recipe.recover, self.context.dataset("train")
        unlabelled = len(dataset.labels) < len(dataset)
        if recover.objective.labels and unlabelled:
            raise RecipeError(
                "recover.objective.labels needs a label for every text, found texts without; set "
                "it to 0"
            )
        if self.gradual is not None and recover.patience is not None:
            raise RecipeError(
                "patience may stop before the pruning is over, found it beside --prune-to; leave "
                "one out"
            )

    def _online(self) -> LiveTeacher:
        context = self.context
        texts = context.dataset("train").texts
        check_tokenizers(self.tokenizer, context.tokenizer, texts)
        check_labels(label_names(load(self.student)), label_names(context.teacher))
        return teacher_of(context)

    def _offline(self, store: TeacherCache) -> CachedTeacher:
        part, cut = self.context.recipe.recover.objective, self.context.recipe.benchmark.max_length
        beyond = [n for n in ("embeddings", "attention", "relations") if getattr(part, n)]
        if part.layers is not None:
            beyond.append("layers")
        if beyond:
            raise RecipeError(
                f"a store has its own pairs of layers, and keeps logits and hidden states, found "
                f"recover.objective.{beyond[0]}; leave it out, or name the teacher in its place"
            )
        examples = encoded(self.context.dataset("train").texts, self.tokenizer, cut)
        store.check(tokenizer=tokenizer_hash(self.tokenizer))
        store.check(data=data_hash(examples))
        model = load(self.student)
        check_labels(label_names(model), store.metadata.labels)
        layers = sum(bind(model).shape.uses)
        if layers != store.metadata.n_student:
            raise RecipeError(
                f"the store {str(store.folder)!r} is for students of {store.metadata.n_student} "
                f"layers, found one of {layers}; make a store with --student-layers {layers}"
            )
        return CachedTeacher(store.metadata)

    @property
    def _label_names(self) -> tuple[str, ...]:
        """The teacher's."""
        if self.store is not None:
            return tuple(self.store.metadata.labels)
        return label_names(self.context.teacher)

    def make(self, seed: int) -> Pupil:
        """An untrained student."""
        recipe, model = self.context.recipe, load(self.student)
        take_labels_(model, self._label_names)
        plan = None if self.store else came_from(model, self.context.teacher)
        course = Course(
            metrics=self.context.task.metrics,
            dataset=self.context.dataset("train"),
            tokenizer=self.tokenizer if self.store else self.context.tokenizer,
            max_length=recipe.benchmark.max_length,
            spec=train_spec(recipe.recover, seed),
            objective=self._objective(plan),
            store=self.store,
            gradual=self.gradual,
        )
        return Pupil(
            model=model,
            course=course,
            tokenizer=self.tokenizer,
            origin=plan,
            pooling=self.context.pooling,
        )

    def _objective(self, plan: Plan | None) -> Objective:
        objective = objective_of(self.context.recipe.recover.objective, plan)
        if self.store is None:
            return objective
        pairs = self.store.metadata.pairs
        return replace(objective, layers=pairs, hidden=objective.hidden if pairs else 0.0)


def train_seeds(
    make: Callable[[int], Pupil],
    seeds: Sequence[int],
    out: Path,
    validation: Dataset | None,
    teaching: TeacherSource | None,
    progress: Progress,
) -> list[Trained]:
    """Train one student a seed, into `out`, or `out/seed-<n>` where there are several.

    A student that is there already, of the same weights, data, teacher and settings, is not trained
    again.

    Args:
        make: From a seed to a student.
        seeds: One student each.
        out: A folder of ours.
        validation: To judge by; none for texts without labels.
        teaching: The teacher, where there is one.
        progress: Told how far each step is.
    """
    found = []
    with locked(out) if is_main() else nullcontext():
        for seed in seeds:
            folder = out if len(seeds) == 1 else out / f"seed-{seed}"
            pupil = make(seed)
            key = pupil.course.key(pupil.model, teaching, pupil.origin)
            trained = _done(folder, key)
            if trained is None:
                trained = _train(pupil, seed, folder, validation, teaching, key, progress)
            elif validation is not None:  # of another validation file, say
                metrics = metrics_of(load(folder), pupil.course, validation, progress)
                trained = replace(trained, metrics=metrics)
            found.append(trained)
    return found


def _done(folder: Path, key: str) -> Trained | None:
    """The training that an earlier call has finished there, if it is of that key."""
    try:
        told = json.loads((folder / NOTES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if told.get("key") != key:
        return None
    curve = TrainingHistory(rows=told["curve"])
    return Trained(seed=told["seed"], folder=folder, metrics=told["metrics"], curve=curve)


def _train(
    pupil: Pupil,
    seed: int,
    folder: Path,
    validation: Dataset | None,
    teaching: TeacherSource | None,
    key: str,
    progress: Progress,
) -> Trained:
    model, course = pupil.model, pupil.course
    home = work_folder(folder, "training")
    learnt = learn(
        model, course, teaching=teaching, plan=pupil.origin, home=home, progress=progress
    )
    metrics = {} if validation is None else metrics_of(model, course, validation, progress)
    trained = Trained(seed=seed, folder=folder, metrics=metrics, curve=learnt.curve)
    if is_main():
        _save(pupil, trained, learnt.plan, key)
        shutil.rmtree(home, ignore_errors=True)
    wait_for_all()
    return trained


def _save(pupil: Pupil, trained: Trained, pruned: Plan | None, key: str) -> None:
    """Write the checkpoint, with `training.json` beside the weights.

    Args:
        pupil: Whose model is trained by now.
        trained: What is told of it.
        pruned: What went while it learnt.
        key: Of all that it depends on.
    """
    model, course = pupil.model, pupil.course
    facts = {"key": key, "seed": trained.seed, "metrics": trained.metrics}
    facts |= {
        "curve": trained.curve.rows,
        "spec": asdict(course.spec),
        "objective": asdict(course.objective),
    }
    text = json.dumps(facts, indent=1)
    removed = [plan for plan in (pupil.removed, pruned) if plan is not None]
    if removed or stored_plan(model.config) is not None:
        whole = reduce(Plan.then, removed) if removed else Plan.full(bind(model).shape)
        save(model, whole, trained.folder, pupil.tokenizer, {NOTES: text}, pupil.pooling)
        return
    with writing(trained.folder, "checkpoint") as temporary:
        model.save_pretrained(temporary)
        save_tokenizer(pupil.tokenizer, temporary)
        if pupil.pooling is not None:
            write_pooling(pupil.pooling, model.config.hidden_size, temporary)
        (temporary / NOTES).write_text(text, encoding="utf-8")


def print_trained(
    title: str, found: Sequence[Trained], teacher: dict[str, float], *, as_json: bool
) -> None:
    """Metrics of each seed, their mean and spread, beside the teacher's where there is one."""
    if not is_main():
        return
    names = list(found[0].metrics)
    values = {name: [trained.metrics[name] for trained in found] for name in names}
    means = {name: float(np.mean(v)) for name, v in values.items()}
    spreads = {name: float(np.std(v, ddof=1)) if len(v) > 1 else 0.0 for name, v in values.items()}
    if as_json:
        facts: dict[str, Any] = {"teacher": teacher, "mean": means, "spread": spreads}
        facts["seeds"] = [
            {"seed": t.seed, "folder": str(t.folder), "metrics": t.metrics, "curve": t.curve.rows}
            for t in found
        ]
        console.print_json(json.dumps(facts))
        return
    rows = [[f"seed {t.seed}", *(f"{t.metrics[n]:.4f}" for n in names)] for t in found]
    if len(found) > 1:
        rows.append(["mean ± s.d.", *(f"{means[n]:.4f} ± {spreads[n]:.4f}" for n in names)])
    if teacher:
        rows.append(["teacher", *(f"{teacher[n]:.4f}" for n in names)])
        kept = [f"{means[n] / teacher[n]:.1%}" if teacher[n] else "" for n in names]
        rows.append(["kept", *kept])
    if names:
        table(title, ["", *names], rows)
    last = found[-1].curve.rows[-1] if found[-1].curve.rows else {}
    parts = [f"{k.removeprefix('loss_')} {v:.4g}" for k, v in last.items() if k.startswith("loss")]
    console.print(f"last loss: {', '.join(parts)}", soft_wrap=True)
    for trained in found:
        console.print(f"checkpoint: {trained.folder}", soft_wrap=True)
