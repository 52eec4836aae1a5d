"""Which layers to drop: the strategies of Sajjad et al. 2020 (arXiv 2004.03844), and one more.

The positional ones are arithmetic; `contribution` and `leave-one-out` look at data.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.batches import Batches, Progress, forward, frozen, n_tokens, silent
from compress.errors import PlanError
from compress.layout import Layout
from compress.masking import masked
from compress.plan import Plan

__all__ = ["DEPTH_STRATEGIES", "DepthStrategy", "contribution", "drop_layers", "leave_one_out"]

DepthStrategy = Literal["top", "bottom", "symmetric", "alternate", "contribution", "leave-one-out"]
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
        strategy: Which ones. `alternate` drops every other layer from the top.
        batches: Data for `contribution` and `leave-one-out`.
        progress: Told after every batch.

    Raises:
        PlanError: There are not that many layers to drop.
    """
    shape = layout.shape
    if not 0 <= n_drop < shape.depth:
        raise PlanError(
            f"layers to drop must be 0 to {shape.depth - 1}, found {n_drop}; keep at least one"
        )
    full = Plan.full(shape)
    if n_drop == 0:
        return full
    if shape.groups:
        return Plan(shape=shape, layers=full.layers, depth=shape.depth - n_drop)
    dropped = _dropped(layout, n_drop, strategy, batches, progress)
    layers = tuple(layer for layer in full.layers if layer.source not in dropped)
    return Plan(shape=shape, layers=layers, depth=len(layers))


def contribution(layout: Layout, batches: Batches, progress: Progress = silent) -> Array:
    """Mean cosine between each layer's input and output over real tokens: `(n_layers,)`.

    Sajjad et al. 2020, section 3.1.5: the higher it is, the less the layer contributes. (One minus
    it is ShortGPT's block influence.)
    """
    sums = torch.zeros(len(layout.layers), dtype=torch.float64)
    mask: list[Tensor] = []

    def add(index: int) -> object:
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor | tuple[Tensor]) -> None:
            after = output[0] if isinstance(output, tuple) else output
            cosine = nn.functional.cosine_similarity(args[0], after, dim=-1)
            sums[index] += cosine[mask[0]].sum(dtype=torch.float64).cpu()

        return layout.layers[index].module.register_forward_hook(hook)

    handles = [add(i) for i in range(len(layout.layers))]
    try:
        with frozen(layout.model), torch.no_grad():
            for done, batch in enumerate(batches, start=1):
                mask[:] = [batch["attention_mask"].bool().to(layout.model.device)]
                forward(layout.model, batch)
                progress("layer contribution", done, len(batches))
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]
    means: Array = (sums / max(sum(map(n_tokens, batches)), 1)).numpy()
    return means


def leave_one_out(layout: Layout, batches: Batches, progress: Progress = silent) -> Array:
    """Harm done by skipping each layer alone: `(n_layers,)`.

    Mean KL divergence (nats) of the model without the layer from the whole model; the mean
    squared difference where the model has one output.
    """
    full = Plan.full(layout.shape)
    harms = np.zeros(len(layout.layers))
    with frozen(layout.model), torch.no_grad():
        whole = [forward(layout.model, batch) for batch in batches]
        for index in range(len(layout.layers)):
            layers = tuple(layer for layer in full.layers if layer.source != index)
            without = Plan(shape=layout.shape, layers=layers, depth=len(layers))
            with masked(layout, without):
                for batch, reference in zip(batches, whole, strict=True):
                    harms[index] += float(_divergence(reference, forward(layout.model, batch)))
            progress("leave one layer out", index + 1, len(layout.layers))
    harms /= max(sum(len(batch["input_ids"]) for batch in batches), 1)
    return harms


def _dropped(
    layout: Layout, n_drop: int, strategy: DepthStrategy, batches: Batches, progress: Progress
) -> frozenset[int]:
    n = layout.shape.n_layers
    match strategy:
        case "top":
            return frozenset(range(n - n_drop, n))
        case "bottom":
            return frozenset(range(n_drop))
        case "symmetric":
            first = (n - n_drop + 1) // 2
            return frozenset(range(first, first + n_drop))
        case "alternate":
            if n_drop > (n + 1) // 2:
                raise PlanError(
                    f"strategy 'alternate' can drop at most {(n + 1) // 2} of {n} layers, "
                    f"found {n_drop}; use 'top' or 'symmetric'"
                )
            return frozenset(range(n - 1, n - 1 - 2 * n_drop, -2))
        case "contribution":
            order = np.argsort(-contribution(layout, batches, progress), kind="stable")
        case "leave-one-out":
            order = np.argsort(leave_one_out(layout, batches, progress), kind="stable")
    return frozenset(int(i) for i in order[:n_drop])


def _divergence(reference: Tensor, logits: Tensor) -> Tensor:
    """Sum over the batch of KL(reference ‖ logits), or of squared differences."""
    if reference.shape[-1] == 1:
        return (reference - logits).square().sum()
    return nn.functional.kl_div(
        logits.log_softmax(-1), reference.log_softmax(-1), log_target=True, reduction="sum"
    )
