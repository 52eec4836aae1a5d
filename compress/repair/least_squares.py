"""Closed-form repair: refit every output projection of a pruned model by least squares.

Layer by layer, bottom to top, the output projections of attention and FFN are refitted so that
the *residual sum* after the sublayer comes as near as it can to the unpruned model's, given what
now comes in. So each fit also mends the error inherited from the layers below (the idea of
K-prune, Park et al. 2024, KPWT). Nothing is trained and no label is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import torch
from torch import Tensor

from compress.model.batches import Batches, Progress, frozen, silent
from compress.model.layout import LayerLayout, Layout, Sublayer
from compress.plan.plan import Plan
from compress.repair.streams import Stop, Stream, captured, kind_of, passed, uses
from compress.repair.targets import TeacherTargets, set_targets
from compress.saliency.gram import GramSum, solve_damped

__all__ = ["fit_layer", "repair_", "solve_damped"]


def repair_(
    student: Layout,
    teacher: Layout,
    plan: Plan,
    batches: Batches,
    *,
    damping: float = 0.001,
    progress: Progress = silent,
    teacher_targets: TeacherTargets | None = None,
) -> None:
    """Refit the student's output projections, in place, towards the teacher's sublayer outputs.

    Solves ``min_Δ ‖F Δ − (Y − F W)‖² + λ‖Δ‖²`` per sublayer: ``F: (tokens, inputs + 1)`` are the
    student's inputs to the projection and a column of ones for the bias, ``Y`` the teacher's
    residual sum less the student's own residual, and λ is `damping` times the mean diagonal of
    ``FᵀF``. Products of some batches are taken in float32; their sum is kept and solved in float64.
    Padding is left out.

    Shared layers (ALBERT) are fitted once over all their uses, on the teacher's inputs.

    Args:
        student: The pruned model.
        teacher: The unpruned one.
        plan: The plan by which the student was pruned from the teacher.
        batches: Calibration data. Four hidden states per token are held in memory; where layers
            are shared, those of one batch.
        damping: Larger stays nearer to the present weights.
        progress: Called after every layer.
        teacher_targets: What the teacher gives for these batches and further ones, if it is kept.

    Raises:
        DataError: `teacher_targets` begins with other batches.
    """
    with frozen(student.model), frozen(teacher.model), torch.no_grad():
        if student.architecture.shared:
            _repair_shared(student, teacher, batches, damping, progress)
        else:
            teacher_targets = teacher_targets or TeacherTargets(teacher, batches, most_bytes=0)
            teacher_targets.check(batches)
            _repair_stack(student, teacher_targets, len(batches), plan, damping, progress)


def _repair_stack(
    student: Layout,
    teacher_targets: TeacherTargets,
    n_batches: int,
    plan: Plan,
    damping: float,
    progress: Progress,
) -> None:
    teacher, streams = teacher_targets.teacher, teacher_targets.streams(n_batches)
    survivors = {layer.source: student.layers[i] for i, layer in enumerate(plan.layers)}
    for teacher_layer in teacher.layers:
        teacher_targets.set_targets_(teacher_layer, streams)
        layer = survivors.get(teacher_layer.index)
        if layer is not None:
            kind = kind_of(teacher, teacher_layer)
            fit_layer(layer, kind, lambda: streams, damping)
            for stream in streams:
                stream.student = passed(student, layer, kind, stream, stream.student)
        progress("repair", teacher_layer.index + 1, len(teacher.layers))


def _repair_shared(
    student: Layout, teacher: Layout, batches: Batches, damping: float, progress: Progress
) -> None:
    for teacher_layer in teacher.layers:

        def streams(layer: LayerLayout = teacher_layer) -> Iterator[Stream]:
            for batch in batches:
                for stream in uses(teacher, layer, batch):
                    set_targets(teacher, layer, stream)
                    yield stream

        fit_layer(student.layers[teacher_layer.index], "", streams, damping)
        progress("repair", teacher_layer.index + 1, len(teacher.layers))


def fit_layer(
    layer: LayerLayout, kind: str, streams: Callable[[], Iterable[Stream]], damping: float
) -> None:
    """Refit a layer's output projections, in place.

    Args:
        layer: A layer of the student.
        kind: The layer's kind, see `kind_of`.
        streams: Gives what enters the layer, each time that it is asked.
        damping: See `repair_`.
    """
    for sublayer in layer.sublayers:
        if all(part is None for part in sublayer.projection):
            continue
        gram, moment = _normal_equations(layer, kind, sublayer, streams())
        _add_(sublayer, solve_damped(gram, moment, damping))


def _normal_equations(
    layer: LayerLayout, kind: str, sublayer: Sublayer, streams: Iterable[Stream]
) -> tuple[Tensor, Tensor]:
    """``FᵀF`` and ``FᵀR`` over all streams, in float64."""
    _, bias = sublayer.projection
    total: GramSum | None = None
    for stream in streams:
        features, residual_sum = _observe(layer, kind, sublayer, stream)
        missing = stream.targets[sublayer.name] - residual_sum
        ones = features.new_ones(len(features), 0 if bias is None else 1)
        if total is None:
            total = GramSum(features.shape[1] + ones.shape[1], missing.shape[1])
        total.add_(torch.cat([features, ones, missing], dim=1).cpu())
    assert total is not None  # `prune` refuses empty calibration data
    return total.total()


def _add_(sublayer: Sublayer, delta: Tensor) -> None:
    """Add the solution `(inputs, outputs)`, its last row the bias's, to the projection."""
    weight, bias = sublayer.projection
    if bias is not None:
        bias.copy_(bias.double() + delta[-1].to(bias.device))
        delta = delta[:-1]
    if weight is not None:
        weight.copy_(weight.double() + delta.T.to(weight.device))


def _observe(
    layer: LayerLayout, kind: str, sublayer: Sublayer, stream: Stream
) -> tuple[Tensor, Tensor]:
    """What enters the student's projection and the residual sum after it, at real tokens.

    Returns:
        features: `(tokens, inputs)`, with 0 inputs where the sublayer is gone; and the sum:
        `(tokens, hidden_size)`.
    """
    place, seen = sublayer.unit, dict[str, Tensor]()
    with (
        captured(layer, place, seen),
        captured(layer, sublayer.name, seen, stop=True),
        suppress(Stop),
    ):
        args, kwargs = stream.calls[kind]
        layer.module(stream.student, *args, **kwargs)
    total = seen[sublayer.name][stream.mask]
    features = seen[place][stream.mask] if place in seen else total.new_zeros(len(total), 0)
    return features, total
