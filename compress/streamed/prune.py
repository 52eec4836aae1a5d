"""Score, allocate, cut and repair as `compress.prune` does, one layer's weights at a time.

The same functions do the same sums in the same order, so that the student is the same to the bit.
Only where weights and activations lie differs.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compress.batches import Batches, Progress, frozen, silent
from compress.binding import bind
from compress.depth import drop_layers
from compress.errors import CheckpointError
from compress.folder import writing
from compress.importance import Scores, scorer
from compress.layout import LayerLayout, Layout
from compress.plan import LayerPlan, Plan
from compress.plan_config import describe_, whole_plan
from compress.pruning import PruneSpec, allocate_step, budgets, check_budget, check_finite
from compress.repair import Aims, fit_layer, kind_of, passed
from compress.streamed.mapped import drop_pages, empty_model, forget, load_mapped, paged, pages_of
from compress.streamed.shards import Shards
from compress.streamed.spill import spilled
from compress.surgery import apply_, prune_layer_
from compress.tokenizer import save_tokenizer

__all__ = ["prune_streamed"]


def prune_streamed(
    source: Path,
    batches: Batches,
    spec: PruneSpec,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase | None = None,
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
        scratch: For temporary files; by default the system's folder for them.
        progress: Told how far each step is.

    Returns:
        The plan.

    Raises:
        CheckpointError: The checkpoint cannot be read in place, or its layers are shared.
        BudgetError: The share cannot be reached.
    """
    teacher = bind(load_mapped(source))
    _check_unshared(teacher)
    check_budget(teacher, spec)
    with tempfile.TemporaryDirectory(prefix="compress-export-", dir=scratch) as temporary:
        work = Path(temporary)
        with paged(teacher):
            check_finite(teacher, batches)
            plan = drop_layers(teacher, spec.drop, spec.strategy, batches, progress)
        now, steps = source, budgets(teacher, plan.student_shape, spec)
        if plan != Plan.full(teacher.shape) or not steps:
            target = work / "dropped" if steps else folder
            _write(teacher, source, plan, plan, batches, spec, target, tokenizer, progress)
            now = target
        for number, budget in enumerate(steps, start=1):
            student = bind(load_mapped(now))
            scores = _scored(student, batches, spec, work, progress)
            step = allocate_step(scores, student, teacher, spec, budget)
            plan = plan.then(step)
            target = folder if number == len(steps) else work / str(number)
            _write(teacher, now, step, plan, batches, spec, target, tokenizer, progress)
            now = target
    return plan


def _scored(
    student: Layout, batches: Batches, spec: PruneSpec, work: Path, progress: Progress
) -> Scores:
    with paged(student) as resident, spilled(resident, work):
        scores = scorer(spec.score, spec.seed)(student, batches, progress)
    drop_pages(student.model)
    return scores


def _write(
    teacher: Layout,
    now: Path,
    step: Plan,
    plan: Plan,
    batches: Batches,
    spec: PruneSpec,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase | None,
    progress: Progress,
) -> None:
    """Cut, repair and write the student layer by layer.

    Args:
        teacher: The unpruned model, in place.
        now: Checkpoint of the student as it is.
        step: What of it stays.
        plan: What stays of the teacher once the step is done.
        batches: Calibration data.
        spec: See `compress.prune`.
        folder: Of the student as it becomes.
        tokenizer: Saved beside it.
        progress: Told after every layer.
    """
    student = load_mapped(now)
    before = bind(student)
    shape = empty_model(now)
    apply_(shape, step)
    place_of = {layer.source: i for i, layer in enumerate(plan.layers)}
    with writing(folder, "checkpoint") as temporary, ExitStack() as stack:
        describe_(shape.config, shape, whole_plan(teacher.model.config, plan), temporary)
        shape.config.dtype = torch.float32
        shape.config.save_pretrained(temporary)
        stack.enter_context(frozen(student))
        stack.enter_context(frozen(teacher.model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(paged(teacher))
        shards, names = Shards(temporary), _layer_names(before)
        aims = Aims(teacher, batches, most_bytes=0) if spec.repair else None
        streams = aims.streams(len(batches)) if aims else []
        for layer in teacher.layers:
            if aims:
                aims.aim_(layer, streams)
            index = place_of.get(layer.index)
            if index is not None:
                cut = _cut(before, step.layers[index], index)
                if aims:
                    kind = kind_of(teacher, layer)
                    fit_layer(cut, kind, lambda: streams, spec.damping)
                    for stream in streams:
                        stream.student = passed(before, cut, kind, stream, stream.student)
                shards.add(_renamed(cut, f"{names}.{index}."))
                cut.module.to("meta")
            progress("pruning", layer.index + 1, len(teacher.layers))
        shards.add(_rest(student, names))
        shards.close()
        whole_plan(teacher.model.config, plan).save(temporary / "plan.json")
        if tokenizer is not None:
            save_tokenizer(tokenizer, temporary)


def _cut(before: Layout, plan: LayerPlan, index: int) -> LayerLayout:
    """A layer of the student once it is cut, its weights its own and no longer those of a file.

    Args:
        before: The student before the step, in place.
        plan: Of the layer.
        index: Of the layer in the student as it becomes.
    """
    layer = before.layers[plan.source]
    pages = pages_of(layer.module)
    prune_layer_(before, layer, plan)
    for parameter in layer.module.parameters():
        parameter.data = parameter.data.clone()
    forget(pages)
    return replace(bind(before.model).layers[plan.source], index=index)


def _check_unshared(teacher: Layout) -> None:
    if teacher.architecture.shared:
        raise CheckpointError(
            f"a {teacher.shape.model_type} shares its layers' weights, so that all of them are in "
            "memory at once; prune it without streaming"
        )


def _layer_names(layout: Layout) -> str:
    """What the names of all layers' weights begin with."""
    (container,) = layout.containers
    modules: list[tuple[str, nn.Module]] = list(layout.model.named_modules())
    return next(name for name, module in modules if module is container)


def _renamed(layer: LayerLayout, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in layer.module.state_dict().items()}


def _rest(student: PreTrainedModel, layers: str) -> dict[str, Tensor]:
    """All weights but the layers', each once."""
    tied = set(getattr(student, "all_tied_weights_keys", {}) or {})
    return {
        name: tensor
        for name, tensor in student.state_dict().items()
        if not name.startswith(f"{layers}.") and name not in tied
    }
