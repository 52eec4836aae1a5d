"""What the unpruned model's sublayers give: the targets of the repair."""

from __future__ import annotations

import torch
from torch import Tensor

from compress.errors import DataError
from compress.model.batches import Batches, n_tokens
from compress.model.layout import SUBLAYERS, LayerLayout, Layout
from compress.plan.plan import EncoderShape
from compress.repair.streams import Stream, captured, entering, kind_of, passed

__all__ = ["MOST_REMEMBERED", "TeacherTargets", "set_targets", "target_bytes"]

MOST_REMEMBERED = 1_000_000_000
"""Bytes of a teacher's targets that are kept from one repair to the next."""
_FLOAT = 4


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
        self._kept: dict[tuple[int, int], dict[str, Tensor]] = {}

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
                set_targets(self.teacher, layer, stream)
            else:
                stream.targets = known
            if self._keep:
                self._kept[layer.index, place] = stream.targets


def set_targets(teacher: Layout, layer: LayerLayout, stream: Stream) -> None:
    """Pass the teacher's layer, keeping what its sublayers gave as targets for the student."""
    seen: dict[str, Tensor] = {}
    with captured(layer, "attention", seen), captured(layer, "ffn", seen):
        kind = kind_of(teacher, layer)
        stream.teacher = passed(teacher, layer, kind, stream, stream.teacher)
    stream.targets = {sublayer: seen[sublayer][stream.mask] for sublayer in SUBLAYERS}
