"""Which layers to drop: the strategies of Sajjad et al. 2020 (arXiv 2004.03844), and one more.

The positional ones are arithmetic; `contribution` and `leave-one-out` look at data.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.errors import PlanError
from compress.model.batches import (
    Batches,
    Progress,
    divergence,
    forward,
    frozen,
    n_tokens,
    silent,
    token_mask,
)
from compress.model.hooks import hooked
from compress.model.layout import LayerLayout, Layout
from compress.model.masking import masked
from compress.model.task_head import likelihood_of
from compress.plan.plan import EncoderShape, Plan

__all__ = [
    "DEPTH_STRATEGIES",
    "DepthStrategy",
    "contribution",
    "drop_layers",
    "leave_one_out",
    "left_out_divergence",
]

DepthStrategy = Literal[
    "top",
    "bottom",
    "symmetric",
    "alternate",
    "alternate-odd",
    "contribution",
    "leave-one-out",
]
DEPTH_STRATEGIES: tuple[DepthStrategy, ...] = get_args(DepthStrategy)

Array: TypeAlias = NDArray[np.float64]


def drop_layers(
    layout: Layout,
    n_drop: int,
    strategy: DepthStrategy = "top",
    batches: Batches = (),
    progress: Progress = silent,
) -> Plan:
    """The plan that drops `n_drop` layers and keeps the rest whole.

    Args:
        layout: The model. Where layers are shared (ALBERT) they are used `n_drop` times fewer,
            whatever the strategy.
        n_drop: Layers to drop, at least 0 and less than there are.
        strategy: Which ones. `alternate` drops every other layer from the top one
            down, `alternate-odd` from the one below it.
        batches: Data for `contribution` and `leave-one-out`.
        progress: Called after every batch.

    Raises:
        PlanError: There are not that many layers to drop.
    """
    shape = layout.shape
    least = shape.groups or 1
    if not 0 <= n_drop <= shape.depth - least:
        raise PlanError(
            f"layers to drop must be 0 to {shape.depth - least}, found {n_drop}; keep at least "
            f"{'one' if least == 1 else f'{least}, one use of each group'}"
        )
    if n_drop == 0:
        return Plan.full(shape)
    if shape.groups:
        return Plan(shape=shape, layers=Plan.full(shape).layers, depth=shape.depth - n_drop)
    return _without(shape, _dropped(layout, n_drop, strategy, batches, progress))


def contribution(layout: Layout, batches: Batches, progress: Progress = silent) -> Array:
    """Mean cosine between each layer's input and output over real tokens: `(n_layers,)`.

    Sajjad et al. 2020, section 3.1.5: the higher it is, the less the layer contributes. (One minus
    it is ShortGPT's block influence.)
    """
    sums = torch.zeros(len(layout.layers), dtype=torch.float64)
    mask: list[Tensor] = []
    with frozen(layout.model), torch.no_grad(), ExitStack() as stack:
        for layer in layout.layers:
            _compare(stack, layer, sums, mask)
        for done, batch in enumerate(batches, start=1):
            mask[:] = [token_mask(batch, layout.model.device)]
            forward(layout.model, batch)
            progress("layer contribution", done, len(batches))
    means: Array = (sums / max(sum(map(n_tokens, batches)), 1)).numpy()
    return means


def leave_one_out(
    layout: Layout, loss_increase: Callable[[], float], progress: Progress = silent
) -> Array:
    """Loss increase of skipping each layer alone: `(n_layers,)`.

    Args:
        layout: The model.
        loss_increase: Returns the loss increase of the model as it then runs.
        progress: Called after every layer.

    Returns:
        One figure a layer, infinite for a layer that cannot be skipped.
    """
    loss_increases = np.full(len(layout.layers), np.inf)
    for index in _droppable(layout.shape):
        with masked(layout, _without(layout.shape, frozenset([index]))):
            loss_increases[index] = loss_increase()
        progress("leave one layer out", index + 1, len(layout.layers))
    return loss_increases


def left_out_divergence(layout: Layout, batches: Batches, progress: Progress = silent) -> Array:
    """Mean KL divergence (nats) of the model without each layer from the whole model.

    The mean squared difference where the model has one output or gives a representation.
    """
    likelihood = likelihood_of(layout.model)
    count = max(sum(len(batch["input_ids"]) for batch in batches), 1)
    with frozen(layout.model), torch.no_grad():
        whole = [forward(layout.model, batch) for batch in batches]

        def loss_increase() -> float:
            return (
                sum(
                    float(
                        divergence(
                            reference,
                            forward(layout.model, batch),
                            batch,
                            likelihood=likelihood,
                        )
                    )
                    for batch, reference in zip(batches, whole, strict=True)
                )
                / count
            )

        return leave_one_out(layout, loss_increase, progress)


def _compare(stack: ExitStack, layer: LayerLayout, sums: Tensor, mask: list[Tensor]) -> None:
    """Add the cosine between what enters and what leaves `layer` to its sum, at each pass."""
    entered: list[Tensor] = []

    def leave(after: Tensor) -> None:
        cosine = nn.functional.cosine_similarity(entered.pop(), after, dim=-1)
        sums[layer.index] += cosine[mask[0]].sum(dtype=torch.float64).cpu()

    stack.enter_context(hooked(layer, "input", entered.append))
    stack.enter_context(hooked(layer, "output", leave))


def _droppable(shape: EncoderShape) -> range:
    return range(1 if shape.first_pinned else 0, shape.n_layers)


def _without(shape: EncoderShape, dropped: frozenset[int]) -> Plan:
    layers = tuple(layer for layer in Plan.full(shape).layers if layer.source not in dropped)
    return Plan(shape=shape, layers=layers, depth=len(layers))


def _dropped(
    layout: Layout, n_drop: int, strategy: DepthStrategy, batches: Batches, progress: Progress
) -> frozenset[int]:
    layers = _droppable(layout.shape)
    n = len(layers)
    match strategy:
        case "top":
            return frozenset(layers[n - n_drop :])
        case "bottom":
            return frozenset(layers[:n_drop])
        case "symmetric":
            first = (n - n_drop + 1) // 2
            return frozenset(layers[first : first + n_drop])
        case "alternate" | "alternate-odd":
            others = layers[::-2] if strategy == "alternate" else layers[:-1][::-2]
            if n_drop > len(others):
                raise PlanError(
                    f"strategy {strategy!r} can drop at most {len(others)} of {n} layers, "
                    f"found {n_drop}; use 'top' or 'symmetric'"
                )
            return frozenset(others[:n_drop])
        case "contribution":
            order = np.argsort(-contribution(layout, batches, progress), kind="stable")
        case "leave-one-out":
            order = np.argsort(left_out_divergence(layout, batches, progress), kind="stable")
    return frozenset([int(i) for i in order if i in layers][:n_drop])
