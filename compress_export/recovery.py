"""The stage between pruning and export: the student learns from its teacher."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from compress.checkpoint.checkpoint import load
from compress.distillation.teacher_outputs import LiveTeacher
from compress.model.batches import Progress
from compress.model.binding import bind
from compress.plan.plan import Plan
from compress_export.context import Context
from compress_export.learning import (
    Course,
    came_from,
    learn,
    objective_of,
    teacher_of,
    train_spec,
)

__all__ = ["course_of", "recover"]


def recover(
    context: Context, pruned: Path, out: Path, home: Path, progress: Progress
) -> dict[str, Any]:
    """Train the checkpoint `pruned` as the recipe says, and write it to `out`.

    Args:
        context: Of the teacher and its task.
        pruned: What pruning wrote.
        out: The trained checkpoint.
        home: Where training keeps its own checkpoints.
        progress: Told after every step.

    Returns:
        What the report tells of it.
    """
    student = load(pruned)
    plan = came_from(student, context.teacher)
    course, teaching = course_of(context, plan)
    learnt = learn(student, course, teaching=teaching, plan=plan, home=home, progress=progress)
    context.save(student, Plan.full(bind(student).shape), out)
    return {
        "epochs": course.spec.epochs,
        "objective": asdict(course.objective),
        "curve": learnt.curve.rows,
    }


def course_of(context: Context, plan: Plan | None) -> tuple[Course, LiveTeacher]:
    """What a recipe's `recover` teaches a student, and by whom.

    Args:
        context: Of the teacher and its task.
        plan: How the student came from the teacher.
    """
    recipe = context.recipe
    course = Course(
        metrics=context.task.metrics,
        dataset=context.dataset("train"),
        tokenizer=context.tokenizer,
        max_length=recipe.benchmark.max_length,
        spec=train_spec(recipe.recover, recipe.seed),
        objective=objective_of(recipe.recover.objective, plan),
    )
    return course, teacher_of(context)
