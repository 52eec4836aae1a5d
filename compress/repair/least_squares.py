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
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from compress.errors import DataError
from compress.model.batches import (
    Batch,
    Batches,
    Progress,
    forward,
    frozen,
    n_tokens,
    silent,
    token_mask,
)
from compress.model.hooks import Place, first_of, hooked
from compress.model.layout import SUBLAYERS, LayerLayout, Layout, Sublayer
from compress.plan.plan import EncoderShape, Plan
from compress.saliency.gram import GramSum, solve_damped

__all__ = [
    "MOST_REMEMBERED",
    "Stream",
    "TeacherTargets",
    "entering",
    "fit_layer",
    "kind_of",
    "passed",
    "repair_",
    "solve_damped",
    "target_bytes",
]

MOST_REMEMBERED = 1_000_000_000
"""Bytes of a teacher's targets that are kept from one repair to the next."""
_FLOAT = 4


class _Stop(Exception):  # noqa: N818 - a jump out of a forward pass, not an error
    """Raised by a hook once a forward pass has gone far enough."""


_Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""What a layer is called with beside its hidden states."""

_Targets: TypeAlias = dict[str, Tensor]
"""By sublayer: the residual sum at real tokens, `(tokens, hidden_size)`."""


@dataclass(slots=True)
class Stream:
    """One batch on its way up: what enters the next layer, and what its sublayers should give.

    `teacher` and `student` are hidden states as the family's layers take them, `entry` is what
    entered the first; `calls` has what else each kind of layer takes; `targets` holds the
    teacher's residual sums of the present layer.
    """

    teacher: Tensor
    student: Tensor
    entry: Tensor
    mask: Tensor
    calls: dict[str, _Call]
    targets: _Targets


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
        plan: How the student came from the teacher.
        batches: Calibration data. Four hidden states per token are held in memory; where layers
            are shared, those of one batch.
        damping: Larger stays nearer to the present weights.
        progress: Told after every layer.
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


def target_bytes(shape: EncoderShape, tokens: int) -> int:
    """What all targets of so many tokens take: two hidden states a layer and token."""
    return tokens * shape.n_layers * len(SUBLAYERS) * shape.hidden_size * _FLOAT


class TeacherTargets:
    """What a stack of layers gives for some batches: entries, and targets layer by layer.

    Args:
        teacher: The unpruned model, of unshared layers.
        batches: Calibration data.
        most_bytes: Remember all targets, two hidden states per layer and token, for the next
            repair, if they take no more.
    """

    def __init__(
        self, teacher: Layout, batches: Batches, *, most_bytes: int = MOST_REMEMBERED
    ) -> None:
        self.teacher = teacher
        needed = target_bytes(teacher.shape, sum(map(n_tokens, batches)))
        self._batches, self._keep = batches, needed <= most_bytes
        self._kept: dict[tuple[int, int], _Targets] = {}

    def check(self, batches: Batches) -> None:
        """Refuse batches that are not the first of those that the targets are of."""
        if batches is self._batches:
            return
        pairs = zip(batches, self._batches[: len(batches)], strict=False)
        same = len(batches) <= len(self._batches) and all(
            one is other or torch.equal(one["input_ids"], other["input_ids"])
            for one, other in pairs
        )
        if not same:
            raise DataError(
                f"the {len(batches)} batches are not the first of the {len(self._batches)} that "
                "the teacher's outputs were kept for; pass the same batches, or leave "
                "`teacher_targets` out"
            )

    def streams(self, count: int) -> list[Stream]:
        """What enters the first layer, for the first `count` batches."""
        return [entering(self.teacher, batch) for batch in self._batches[:count]]

    def set_targets_(self, layer: LayerLayout, streams: list[Stream]) -> None:
        """Set the targets of one layer after the other, in order."""
        for place, stream in enumerate(streams):
            known = self._kept.get((layer.index, place))
            if known is None:
                _set_targets(self.teacher, layer, stream)
            else:
                stream.targets = known
            if self._keep:
                self._kept[layer.index, place] = stream.targets


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
                for stream in _uses(teacher, layer, batch):
                    _set_targets(teacher, layer, stream)
                    yield stream

        fit_layer(student.layers[teacher_layer.index], "", streams, damping)
        progress("repair", teacher_layer.index + 1, len(teacher.layers))


def _set_targets(teacher: Layout, layer: LayerLayout, stream: Stream) -> None:
    """Pass the teacher's layer, keeping what its sublayers gave as targets for the student."""
    seen: dict[str, Tensor] = {}
    with _captured(layer, "attention", seen), _captured(layer, "ffn", seen):
        kind = kind_of(teacher, layer)
        stream.teacher = passed(teacher, layer, kind, stream, stream.teacher)
    stream.targets = {sublayer: seen[sublayer][stream.mask] for sublayer in SUBLAYERS}


def fit_layer(
    layer: LayerLayout, kind: str, streams: Callable[[], Iterable[Stream]], damping: float
) -> None:
    """Refit a layer's output projections, in place.

    Args:
        layer: Of the student.
        kind: Of the layer, see `kind_of`.
        streams: Gives what enters the layer, each time that it is asked.
        damping: See `repair_`.
    """
    for sublayer in SUBLAYERS:
        if all(part is None for part in layer.projection(sublayer)):
            continue
        gram, moment = _normal_equations(layer, kind, sublayer, streams())
        _add_(layer, sublayer, solve_damped(gram, moment, damping))


def _normal_equations(
    layer: LayerLayout, kind: str, sublayer: Sublayer, streams: Iterable[Stream]
) -> tuple[Tensor, Tensor]:
    """``FᵀF`` and ``FᵀR`` over all streams, in float64."""
    _, bias = layer.projection(sublayer)
    total: GramSum | None = None
    for stream in streams:
        features, residual_sum = _observe(layer, kind, sublayer, stream)
        missing = stream.targets[sublayer] - residual_sum
        ones = features.new_ones(len(features), 0 if bias is None else 1)
        if total is None:
            total = GramSum(features.shape[1] + ones.shape[1], missing.shape[1])
        total.add_(torch.cat([features, ones, missing], dim=1).cpu())
    assert total is not None  # `prune` refuses empty calibration data
    return total.total()


def _add_(layer: LayerLayout, sublayer: Sublayer, delta: Tensor) -> None:
    """Add the solution `(inputs, outputs)`, its last row the bias's, to the projection."""
    weight, bias = layer.projection(sublayer)
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
    place: Place = "heads" if sublayer == "attention" else "neurons"
    seen: dict[str, Tensor] = {}
    with (
        _captured(layer, place, seen),
        _captured(layer, sublayer, seen, stop=True),
        suppress(_Stop),
    ):
        args, kwargs = stream.calls[kind]
        layer.module(stream.student, *args, **kwargs)
    total = seen[sublayer][stream.mask]
    features = seen[place][stream.mask] if place in seen else total.new_zeros(len(total), 0)
    return features, total


@contextmanager
def _captured(
    layer: LayerLayout, place: Place, seen: dict[str, Tensor], *, stop: bool = False
) -> Iterator[None]:
    def keep(tensor: Tensor) -> None:
        seen[place] = tensor
        if stop:
            raise _Stop

    with hooked(layer, place, keep):
        yield


def passed(layout: Layout, layer: LayerLayout, kind: str, stream: Stream, hidden: Tensor) -> Tensor:
    """The hidden states that leave `layer`, and what is applied after the first."""
    args, kwargs = stream.calls[kind]
    output = first_of(layer.module(hidden, *args, **kwargs))
    if layer.index == 0 and layout.after_first is not None:
        output = layout.after_first(stream.entry, output, stream.mask.long())
    return output


def kind_of(layout: Layout, layer: LayerLayout) -> str:
    """The kind of a layer of an unpruned model; layers of one kind are called alike."""
    kinds = layout.shape.kinds
    return kinds[layer.index] if kinds else ""


def entering(teacher: Layout, batch: Batch) -> Stream:
    """Run the teacher up to its first layer, or until every kind of layer has been called."""
    first, *others = teacher.layers
    missing = {kind_of(teacher, layer): layer for layer in reversed(others)}
    missing.pop(kind_of(teacher, first), None)
    (stream,) = _uses(teacher, first, batch, stop=True)
    for kind, layer in missing.items():
        (use,) = _uses(teacher, layer, batch, stop=True)
        stream.calls[kind] = use.calls[kind]
    return stream


def _uses(teacher: Layout, layer: LayerLayout, batch: Batch, *, stop: bool = False) -> list[Stream]:
    """What enters `layer` at each of its uses; at the first alone, and no further, if `stop`."""
    streams: list[Stream] = []
    mask = token_mask(batch, teacher.model.device)
    kind = kind_of(teacher, layer)

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden, *rest = args
        streams.append(Stream(hidden, hidden, hidden, mask, {kind: (tuple(rest), kwargs)}, {}))
        if stop:
            raise _Stop

    handle = layer.module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        with suppress(_Stop):
            forward(teacher.model, batch)
    finally:
        handle.remove()
    return streams
