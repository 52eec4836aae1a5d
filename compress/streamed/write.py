"""The arrow from a plan to a student on disk: cut, repaired and written layer by layer."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compress.checkpoint.stored_plan import describe_, whole_plan
from compress.checkpoint.tokenizer import save_tokenizer
from compress.checkpoint.verify import TOLERANCE
from compress.errors import VerificationError
from compress.files.folder import writing
from compress.model.batches import Batch, Batches, Progress, frozen
from compress.model.binding import bind
from compress.model.layout import LayerLayout, Layout
from compress.model.pooling import Pooling, write_pooling
from compress.model.surgery import apply_, prune_layer_
from compress.plan.plan import LayerPlan, Plan
from compress.repair.least_squares import fit_layer
from compress.repair.streams import entering, kind_of, passed
from compress.repair.targets import TeacherTargets
from compress.streamed.mapped import empty_model, forget, layer_views, load_mapped, paged
from compress.streamed.shards import Shards

__all__ = ["StudentWriter"]


@dataclass(frozen=True, slots=True)
class StudentWriter:
    """Cuts, repairs and writes students of one teacher.

    Attributes:
        teacher: The unpruned model, in place.
        damping: Relative damping of the repair; `None` for no repair.
        tokenizer: Saved beside the weights.
        pooling: Pooling of an embedding model, saved beside the weights.
        progress: Called after every layer.
    """

    teacher: Layout
    damping: float | None
    tokenizer: PreTrainedTokenizerBase | None
    pooling: Pooling | None
    progress: Progress

    def write(self, now: Path, step: Plan, plan: Plan, batches: Batches, folder: Path) -> None:
        """Write the student as it becomes.

        Args:
            now: Checkpoint of the student as it is.
            step: The plan for the student as it is.
            plan: The plan for the teacher that gives the same.
            batches: Calibration data.
            folder: Appears when it is complete.
        """
        teacher, damping = self.teacher, self.damping
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
            teacher_targets = (
                TeacherTargets(teacher, batches, most_bytes=0) if damping is not None else None
            )
            streams = teacher_targets.streams(len(batches)) if teacher_targets else []
            for layer in teacher.layers:
                if teacher_targets:
                    teacher_targets.set_targets_(layer, streams)
                index = place_of.get(layer.index)
                if index is not None:
                    cut = _cut(before, step.layers[index], index)
                    if damping is not None:
                        kind = kind_of(teacher, layer)
                        fit_layer(cut, kind, lambda: streams, damping)
                        for stream in streams:
                            stream.student = passed(before, cut, kind, stream, stream.student)
                    shards.add(_renamed(cut, f"{names}.{index}."))
                    cut.module.to("meta")
                self.progress("pruning", layer.index + 1, len(teacher.layers))
            shards.add(_rest(student, names))
            shards.close()
            whole_plan(teacher.model.config, plan).save(temporary / "plan.json")
            if self.tokenizer is not None:
                save_tokenizer(self.tokenizer, temporary)
            if self.pooling is not None:
                write_pooling(self.pooling, teacher.shape.hidden_size, temporary)
            _verify(temporary, batches[0], streams[0].student if streams else None)


def _verify(folder: Path, batch: Batch, expected: Tensor | None) -> None:
    """Read what was written, and hold what its layers give against what they gave before.

    Args:
        folder: A checkpoint.
        batch: A batch of calibration data.
        expected: What left the last layer when it was cut; none if nothing was computed then.

    Raises:
        VerificationError: It gives something else, or values that are not finite.
    """
    saved = bind(load_mapped(folder))
    with frozen(saved.model), torch.no_grad(), paged(saved):
        stream = entering(saved, batch)
        for layer in saved.layers:
            kind = kind_of(saved, layer)
            stream.teacher = passed(saved, layer, kind, stream, stream.teacher)
    found = stream.teacher
    if not bool(torch.isfinite(found).all()):
        raise VerificationError(
            "the pruned layers must give finite hidden states, found others on calibration data; "
            "prune less, or repair with more of it"
        )
    gap = 0.0 if expected is None else float((found - expected).abs().max())
    if not gap <= TOLERANCE * max(1.0, float(found.abs().max())):
        raise VerificationError(
            f"the checkpoint read from its files must give what was written, found hidden states "
            f"that differ by {gap:.1e}; see whether the disk is sound"
        )


def _cut(before: Layout, plan: LayerPlan, index: int) -> LayerLayout:
    """A layer of the student once it is cut, its weights its own and no longer those of a file.

    Args:
        before: The student before the step, in place.
        plan: The layer's plan.
        index: The layer's index in the pruned student.
    """
    layer = before.layers[plan.source]
    views = layer_views(layer.module)
    prune_layer_(before, layer, plan)
    for parameter in layer.module.parameters():
        parameter.data = parameter.data.clone()
    forget(views)
    return replace(bind(before.model).layers[plan.source], index=index)


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
