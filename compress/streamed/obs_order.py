"""Structured OBS with one layer's weights and one layer's statistics in memory at a time."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from compress.model.batches import Batches, Loss, Progress, frozen
from compress.model.hooks import hooked
from compress.model.layout import LayerLayout, Layout, Sublayer, SublayerName
from compress.repair.streams import Stream, entering, kind_of, passed
from compress.saliency.gram import GramSum
from compress.saliency.obs import Removal
from compress.saliency.pruning_order import PruningOrder, removal_of
from compress.saliency.statistics import observe, with_one
from compress.streamed.mapped import paged
from compress.streamed.spill import spilled

__all__ = ["obs_order_by_layer"]


def obs_order_by_layer(
    student: Layout,
    batches: Batches,
    loss: Loss,
    damping: float,
    scratch: Path | None,
    progress: Progress,
) -> PruningOrder:
    """As `compress.saliency.pruning_order.obs_order`, in two passes.

    Gradients come from one pass over the batches, inputs from one over the layers.

    Args:
        student: A mapped model.
        batches: Calibration data.
        loss: The loss whose squared gradients are a Fisher matrix of the outputs.
        damping: Damping of the inputs' covariance, relative to the mean of its diagonal.
        scratch: Folder for temporary files.
        progress: Called after every batch and every layer.
    """
    with paged(student) as resident, spilled(resident, scratch):
        statistics = observe(student, batches, loss, progress, inputs=False)
    removals: dict[tuple[int, SublayerName], Removal] = {}
    with frozen(student.model), torch.no_grad(), paged(student) as resident:
        streams = [entering(student, batch) for batch in batches]
        for layer in student.layers:
            sums = _inputs(student, layer, streams)
            with resident.held(layer.module):
                for sublayer, total in sums:
                    place = layer.index, sublayer.name
                    moments = replace(statistics.moments[place], inputs=total.total()[0])
                    removals[place] = removal_of(sublayer, moments, statistics.sequences, damping)
            progress("ranking", layer.index + 1, len(student.layers))
    return lambda index, sublayer: removals.get((index, sublayer))


def _inputs(
    student: Layout, layer: LayerLayout, streams: list[Stream]
) -> list[tuple[Sublayer, GramSum]]:
    """Moments of what enters the output projections; the streams then stand above the layer."""
    sums = [(s, GramSum(s.n_inputs + 1, dtype=torch.float32)) for s in layer.sublayers if s.n_units]
    kind = kind_of(student, layer)
    for stream in streams:
        with ExitStack() as stack:
            for sublayer, total in sums:

                def add(features: Tensor, total: GramSum = total, stream: Stream = stream) -> None:
                    total.add_(with_one(features.detach()[stream.mask].cpu()))

                stack.enter_context(hooked(layer, sublayer.unit, add))
            stream.teacher = passed(student, layer, kind, stream, stream.teacher)
    return sums
