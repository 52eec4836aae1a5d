"""Closed-form repair: refit every output projection of a pruned model by least squares.

Layer by layer, bottom to top, the output projections of attention and FFN are refitted so that
the *residual sum* after the sublayer comes as near as it can to the unpruned model's, given what
now comes in. So each fit also mends the error inherited from the layers below (the idea of
K-prune, Park et al. 2024, KPWT). Nothing is trained and no label is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compress.batches import Batch, Batches, Progress, forward, frozen, silent
from compress.layout import LayerLayout, Layout
from compress.plan import Plan

__all__ = ["repair_", "solve_damped"]


class _Stop(Exception):  # noqa: N818 - a jump out of a forward pass, not an error
    """Raised by a hook once a forward pass has gone far enough."""


@dataclass(slots=True)
class _Stream:
    """One batch on its way up: what enters the next layer, and what its sublayers should give.

    `teacher` and `student` are `(batch, sequence, hidden_size)`; `targets` holds the teacher's
    residual sums of the present layer at real tokens, `(tokens, hidden_size)`.
    """

    teacher: Tensor
    student: Tensor
    mask: Tensor
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    targets: dict[str, Tensor]


def repair_(
    student: Layout,
    teacher: Layout,
    plan: Plan,
    batches: Batches,
    *,
    damping: float = 0.001,
    progress: Progress = silent,
) -> None:
    """Refit the student's output projections, in place, towards the teacher's sublayer outputs.

    Solves ``min_Δ ‖F Δ − (Y − F W)‖² + λ‖Δ‖²`` per sublayer: ``F: (tokens, inputs + 1)`` are the
    student's inputs to the projection and a column of ones for the bias, ``Y`` the teacher's
    residual sum less the student's own residual, and λ is `damping` times the mean diagonal of
    ``FᵀF``. Grams are accumulated and solved in float64. Padding is left out.

    Shared layers (ALBERT) are fitted once over all their uses, on the teacher's inputs.

    Args:
        student: The pruned model.
        teacher: The unpruned one.
        plan: How the student came from the teacher.
        batches: Calibration data. Four hidden states per token are held in memory; where layers
            are shared, those of one batch.
        damping: Larger stays nearer to the present weights.
        progress: Told after every layer.
    """
    with frozen(student.model), frozen(teacher.model), torch.no_grad():
        if student.architecture.shared:
            _repair_shared(student, teacher, batches, damping, progress)
        else:
            _repair_stack(student, teacher, plan, batches, damping, progress)


def solve_damped(gram: Tensor, moment: Tensor, damping: float) -> Tensor:
    """The minimiser Δ of ``tr(Δᵀ G Δ) − 2 tr(Δᵀ M) + λ‖Δ‖²``, λ = damping × mean diagonal of G.

    Args:
        gram: ``G = FᵀF``, `(inputs, inputs)`, float64.
        moment: ``M = FᵀR``, `(inputs, outputs)`, float64.
        damping: Relative; above 0 where G may be singular.

    Returns:
        Δ: `(inputs, outputs)`.
    """
    damped = gram.clone()
    damped.diagonal().add_(damping * gram.diagonal().mean().clamp_min(1e-12))
    solution: Tensor = torch.linalg.solve(damped, moment)
    return solution


def _repair_stack(
    student: Layout,
    teacher: Layout,
    plan: Plan,
    batches: Batches,
    damping: float,
    progress: Progress,
) -> None:
    streams = [_enter(teacher, batch) for batch in batches]
    survivors = {layer.source: student.layers[i] for i, layer in enumerate(plan.layers)}
    for teacher_layer in teacher.layers:
        for stream in streams:
            _aim(teacher_layer, stream)
        layer = survivors.get(teacher_layer.index)
        if layer is not None:
            _fit_layer(layer, lambda: streams, damping)
            for stream in streams:
                stream.student = _call(layer, stream.student, stream)
        progress("repair", teacher_layer.index + 1, len(teacher.layers))


def _repair_shared(
    student: Layout, teacher: Layout, batches: Batches, damping: float, progress: Progress
) -> None:
    for teacher_layer in teacher.layers:

        def streams(layer: LayerLayout = teacher_layer) -> Iterator[_Stream]:
            for batch in batches:
                for stream in _uses(teacher, layer, batch):
                    _aim(layer, stream)
                    yield stream

        _fit_layer(student.layers[teacher_layer.index], streams, damping)
        progress("repair", teacher_layer.index + 1, len(teacher.layers))


def _aim(teacher: LayerLayout, stream: _Stream) -> None:
    """Pass the teacher's layer, keeping what its sublayers gave as targets for the student."""
    seen: dict[str, Tensor] = {}
    with (
        _captured(teacher.attention_norm, seen, "attention"),
        _captured(teacher.ffn_norm, seen, "ffn"),
    ):
        stream.teacher = _call(teacher, stream.teacher, stream)
    stream.targets = {sublayer: total[stream.mask] for sublayer, total in seen.items()}


def _fit_layer(
    layer: LayerLayout, streams: Callable[[], Iterable[_Stream]], damping: float
) -> None:
    for sublayer in ("attention", "ffn"):
        gram, moment = _normal_equations(layer, sublayer, streams())
        projection = layer.heads_out if sublayer == "attention" else layer.ffn_out
        _add_(projection, solve_damped(gram, moment, damping))


def _normal_equations(
    layer: LayerLayout, sublayer: str, streams: Iterable[_Stream]
) -> tuple[Tensor, Tensor]:
    """``FᵀF`` and ``FᵀR`` over all streams, in float64."""
    total: Tensor | None = None
    for stream in streams:
        features, residual_sum = _observe(layer, sublayer, stream)
        missing = stream.targets[sublayer] - residual_sum
        joint = torch.cat([features, features.new_ones(len(features), 1), missing], dim=1)
        product = (joint[:, : features.shape[1] + 1].T @ joint).double()
        total = product if total is None else total.add_(product)
    assert total is not None  # `prune` refuses empty calibration data
    size = total.shape[0]
    return total[:, :size], total[:, size:]


def _add_(projection: nn.Module, delta: Tensor) -> None:
    """Add the solution `(inputs + 1, outputs)` to the projection's weight and bias."""
    weight, bias = getattr(projection, "weight", None), projection.bias
    if isinstance(weight, Tensor):
        weight.copy_((weight.double() + delta[:-1].T).to(weight.dtype))
    if isinstance(bias, Tensor):
        bias.copy_((bias.double() + delta[-1]).to(bias.dtype))


def _observe(layer: LayerLayout, sublayer: str, stream: _Stream) -> tuple[Tensor, Tensor]:
    """What enters the student's projection and the residual sum after it, at real tokens.

    Returns:
        features: `(tokens, inputs)`, with 0 inputs where the sublayer is gone; and the sum:
        `(tokens, hidden_size)`.
    """
    projection, norm, units = (
        (layer.heads_out, layer.attention_norm, layer.n_heads)
        if sublayer == "attention"
        else (layer.ffn_out, layer.ffn_norm, layer.ffn_width)
    )
    seen: dict[str, Tensor] = {}
    with (
        _captured(projection, seen, "features"),
        _captured(norm, seen, "sum", stop=True),
        suppress(_Stop),
    ):
        _call(layer, stream.student, stream)
    total = seen["sum"][stream.mask]
    features = seen["features"][stream.mask] if units else total.new_zeros(len(total), 0)
    return features, total


@contextmanager
def _captured(
    module: nn.Module, seen: dict[str, Tensor], key: str, *, stop: bool = False
) -> Iterator[None]:
    def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
        seen[key] = args[0]
        if stop:
            raise _Stop

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _call(layer: LayerLayout, hidden: Tensor, stream: _Stream) -> Tensor:
    output = layer.module(hidden, *stream.args, **stream.kwargs)
    result: Tensor = output[0] if isinstance(output, tuple) else output
    return result


def _enter(teacher: Layout, batch: Batch) -> _Stream:
    """Run the teacher up to its first layer."""
    return _uses(teacher, teacher.layers[0], batch, first=True)[0]


def _uses(
    teacher: Layout, layer: LayerLayout, batch: Batch, *, first: bool = False
) -> list[_Stream]:
    """What enters `layer` at each of its uses; at the first alone if `first`."""
    streams: list[_Stream] = []
    mask = batch["attention_mask"].bool().to(teacher.model.device)

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        streams.append(_Stream(args[0], args[0], mask, args[1:], kwargs, {}))
        if first:
            raise _Stop

    handle = layer.module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        with suppress(_Stop):
            forward(teacher.model, batch)
    finally:
        handle.remove()
    return streams
