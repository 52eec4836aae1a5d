"""Score, allocate, cut and repair as `compress.prune` does, one layer's weights at a time.

The same functions do the same sums in the same order, so that the student is the same to the bit.
Only where weights and activations lie differs.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from compress.errors import CheckpointError
from compress.model.batches import Batches, Progress, silent
from compress.model.binding import bind
from compress.model.layout import Layout
from compress.model.pooling import Pooling
from compress.plan.plan import Plan
from compress.pruner.prune import PruneSpec, allocate_step, budgets, check_budget, check_calibration
from compress.saliency.scorers import Scores, scorer
from compress.search.depth import drop_layers
from compress.streamed.mapped import forget, layer_views, load_mapped, paged
from compress.streamed.spill import spilled
from compress.streamed.write import StudentWriter

__all__ = ["prune_streamed"]


def prune_streamed(
    source: Path,
    batches: Batches,
    spec: PruneSpec,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase | None = None,
    pooling: Pooling | None = None,
    scratch: Path | None = None,
    progress: Progress = silent,
) -> Plan:
    """Prune a checkpoint into another one; neither is ever whole in memory.

    Memory holds embeddings and head, one layer of teacher and student, and four hidden states per
    calibration token. On disk, `scratch` takes a student per step and what backward passes need.

    Args:
        source: A checkpoint of unshared layers, in float32.
        batches: Calibration data; small batches keep activations small.
        spec: See `compress.prune`.
        folder: Of the student; appears when it is complete.
        tokenizer: Saved beside the weights.
        pooling: Of an embedding model, saved too.
        scratch: For temporary files; by default the system's folder for them.
        progress: Told how far each step is.

    Returns:
        The plan.

    Raises:
        CheckpointError: The checkpoint cannot be read in place, or its layers are shared.
        BudgetError: The share cannot be reached.
    """
    teacher = open_teacher(source)
    damping = spec.damping if spec.repair else None
    writer = StudentWriter(teacher, damping, tokenizer, pooling, progress)
    check_budget(teacher, spec)
    with tempfile.TemporaryDirectory(prefix="compress-export-", dir=scratch) as temporary:
        work = Path(temporary)
        with paged(teacher):
            check_calibration(teacher, batches, spec)
            plan = drop_layers(teacher, spec.drop, spec.strategy, batches, progress)
        now, steps = source, budgets(teacher, plan.student_shape, spec)
        if plan != Plan.full(teacher.shape) or not steps:
            target = work / "dropped" if steps else folder
            writer.write(source, plan, plan, batches, target)
            now = target
        for number, budget in enumerate(steps, start=1):
            student = bind(load_mapped(now))
            scores = _scored(student, batches, spec, work, progress)
            step = allocate_step(scores, student, teacher, spec, budget)
            plan = plan.then(step)
            target = folder if number == len(steps) else work / str(number)
            writer.write(now, step, plan, batches, target)
            drop_old(now, work)
            now = target
    return plan


def _scored(
    student: Layout, batches: Batches, spec: PruneSpec, work: Path, progress: Progress
) -> Scores:
    with paged(student) as resident, spilled(resident, work):
        scores = scorer(spec.score, spec.seed)(student, batches, progress)
    for layer in student.layers:
        forget(layer_views(layer.module))
    return scores


def drop_old(student: Path, work: Path) -> None:
    """Remove a student of an earlier step: each is large, and only the last is wanted."""
    if student.is_relative_to(work):
        shutil.rmtree(student)


def open_teacher(source: Path) -> Layout:
    """The unpruned model, in place.

    Raises:
        CheckpointError: It cannot be read in place, or its layers are shared.
    """
    teacher = bind(load_mapped(source))
    if teacher.architecture.shared:
        raise CheckpointError(
            f"a {teacher.shape.model_type} shares its layers' weights, so that all of them are in "
            "memory at once; prune it without streaming"
        )
    return teacher
