"""One student a seed: trained, judged on the validation split, written to disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from benchmarks.tasks import Dataset
from compress.batches import Progress
from compress.binding import bind
from compress.checkpoint import load, save, stored_plan
from compress.distill.gradual import GradualSpec
from compress.distill.objective import Objective
from compress.distill.remember import tokenizer_hash
from compress.distill.store import Store
from compress.distill.teaching import Offline, Online, Teaching
from compress.folder import writing
from compress.plan import Plan
from compress.training import Curve, is_main
from compress_export.console import out as console
from compress_export.console import table
from compress_export.context import Context
from compress_export.learning import (
    Course,
    came_from,
    check_tokenizers,
    data_hash,
    learn,
    metrics_of,
    objective_of,
    train_spec,
)
from compress_export.loading import load_tokenizer

__all__ = ["Pupil", "School", "Trained", "print_trained", "train_seeds"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pupil:
    """An untrained student.

    Attributes:
        model: To train.
        course: What it learns.
        origin: How it came from its teacher, if it did.
        removed: What has just gone from it, and is written nowhere yet.
    """

    model: PreTrainedModel
    course: Course
    origin: Plan | None = None
    removed: Plan | None = None


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
    curve: Curve


class School:
    """What all students of one teacher share.

    Args:
        context: Of the teacher; of the student itself where there is a store.
        student: A checkpoint.
        store: What is kept of the teacher.
        gradual: How students are pruned while they learn, if they are.
    """

    def __init__(
        self, context: Context, student: str, store: Store | None, gradual: GradualSpec | None
    ) -> None:
        self.context, self.student, self.store = context, student, store
        self.gradual = gradual
        self.tokenizer = load_tokenizer(student)
        part = context.recipe.recover.objective
        self.teaching: Teaching
        if store is None:
            check_tokenizers(self.tokenizer, context.tokenizer)
            heard = bool(part.attention or part.relations)
            self.teaching = Online(context.teacher, projections=heard)
        else:
            cut = context.recipe.benchmark.max_length
            store.check(
                data=data_hash(context.dataset("train").texts, cut),
                tokenizer=tokenizer_hash(self.tokenizer),
            )
            self.teaching = Offline(store.facts)

    def make(self, seed: int) -> Pupil:
        """An untrained student."""
        recipe, model = self.context.recipe, load(self.student)
        plan = None if self.store else came_from(model, self.context.teacher)
        course = Course(
            metrics=self.context.task.metrics,
            dataset=self.context.dataset("train"),
            tokenizer=self.tokenizer,
            max_length=recipe.benchmark.max_length,
            spec=train_spec(recipe.recover, seed),
            objective=self._objective(plan),
            store=self.store,
            gradual=self.gradual,
        )
        return Pupil(model=model, course=course, origin=plan)

    def _objective(self, plan: Plan | None) -> Objective:
        objective = objective_of(self.context.recipe.recover.objective, plan)
        if self.store is None:
            return objective
        pairs = self.store.facts.pairs
        return replace(objective, layers=pairs, hidden=objective.hidden if pairs else 0.0)


def train_seeds(
    make: Callable[[int], Pupil],
    seeds: Sequence[int],
    out: Path,
    validation: Dataset | None,
    teaching: Teaching | None,
    progress: Progress,
) -> list[Trained]:
    """Train one student a seed, into `out`, or `out/seed-<n>` where there are several.

    Args:
        make: From a seed to a student.
        seeds: One student each.
        out: A folder of ours.
        validation: To judge by; none for texts without labels.
        teaching: The teacher, where there is one.
        progress: Told how far each step is.
    """
    found = []
    for seed in seeds:
        folder = out if len(seeds) == 1 else out / f"seed-{seed}"
        pupil = make(seed)
        model, course = pupil.model, pupil.course
        home = folder.with_name(f"{folder.name}.training")
        learnt = learn(
            model, course, teaching=teaching, plan=pupil.origin, home=home, progress=progress
        )
        metrics = {} if validation is None else metrics_of(model, course, validation, progress)
        trained = Trained(seed=seed, folder=folder, metrics=metrics, curve=learnt.curve)
        if is_main():
            _save(pupil, trained, learnt.plan)
            shutil.rmtree(home, ignore_errors=True)
        found.append(trained)
    return found


def _save(pupil: Pupil, trained: Trained, pruned: Plan | None) -> None:
    """Write the checkpoint, with `training.json` beside the weights.

    Args:
        pupil: Whose model is trained by now.
        trained: What is told of it.
        pruned: What went while it learnt.
    """
    model, course = pupil.model, pupil.course
    facts = {"seed": trained.seed, "metrics": trained.metrics, "curve": trained.curve.rows}
    facts |= {"spec": asdict(course.spec), "objective": asdict(course.objective)}
    text = json.dumps(facts, indent=1)
    removed = [plan for plan in (pupil.removed, pruned) if plan is not None]
    if removed or stored_plan(model.config) is not None:
        whole = reduce(Plan.then, removed) if removed else Plan.full(bind(model).shape)
        save(model, whole, trained.folder, course.tokenizer)
        (trained.folder / "training.json").write_text(text, encoding="utf-8")
        return
    with writing(trained.folder, "checkpoint") as temporary:
        model.save_pretrained(temporary)
        course.tokenizer.save_pretrained(temporary)
        (temporary / "training.json").write_text(text, encoding="utf-8")


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
        rows.append(["kept", *(f"{means[n] / teacher[n]:.1%}" for n in names)])
    if names:
        table(title, ["", *names], rows)
    last = found[-1].curve.rows[-1] if found[-1].curve.rows else {}
    parts = [f"{k.removeprefix('loss_')} {v:.4g}" for k, v in last.items() if k.startswith("loss")]
    console.print(f"last loss: {', '.join(parts)}", soft_wrap=True)
    for trained in found:
        console.print(f"checkpoint: {trained.folder}", soft_wrap=True)
