"""Importance from the gradient of a loss with respect to gates on heads and neurons.

With a gate ``ξ`` multiplying a unit's output ``a``, ``∂L/∂ξ = ⟨a, ∂L/∂a⟩``: one backward pass
through activations gives the derivative for every unit, and no weight gradient is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from compress.model.batches import Batches, Loss, Progress, forward, frozen, n_tokens, silent
from compress.model.hooks import Hook, hooked
from compress.model.layout import Layout
from compress.saliency.scores import Array, Scores
from compress.validation import above, validate

__all__ = ["GradientScore", "gradient_scores"]

Reduction = Literal["token", "sequence", "batch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientScore:
    """How gate gradients become a score.

    Attributes:
        name: Name of the scores.
        reduction: Over what the derivative is summed before its size is taken. `sequence` is
            the expectation of Michel et al. 2019 (eq. 2); `token` is what their code computes,
            but that it divides the last layer by examples and not by tokens; `batch` is what
            accumulating ``head_mask.grad.abs()`` gives.
        power: 1 for ``|g|`` (Michel et al. 2019), 2 for ``g²``, the diagonal Fisher information
            (Kwon et al. 2022, eq. 9).
        labels: `given`, or `sampled` from the model, which needs no labels.
        temperature: Softmax temperature of the sampled labels.
        layer_norm: Divide a layer's scores by their l2 norm, heads and neurons together, so that
            they stay on one scale (Michel et al. 2019, after Molchanov et al. 2017).
        seed: Seed of the sampled labels.
    """

    name: str = "fisher"
    reduction: Reduction = "sequence"
    power: Literal[1, 2] = 2
    labels: Literal["given", "sampled"] = "sampled"
    temperature: float = 2.0
    layer_norm: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        validate(self, temperature=above(0))


def gradient_scores(
    layout: Layout,
    batches: Batches,
    loss: Loss,
    method: GradientScore,
    progress: Progress = silent,
) -> Scores:
    """Score every head and neuron by the gradient of `loss` with respect to its gate.

    The gradient of an example is summed over everything that the example used a gate for before
    its size is taken: the uses of a shared layer (ALBERT), and, for `sequence` and `batch`, its
    tokens and the rows of its choices.

    Args:
        layout: The model.
        batches: Calibration data; padding carries no gradient.
        loss: Sum over the batch.
        method: Reduction, power and normalisation. (`labels` is the caller's: it chose `loss`.)
        progress: Called after every batch.

    Returns:
        Mean per token, sequence or batch.
    """
    sums = _Sums(layout, method)
    count = 0
    with frozen(layout.model), sums.watching():
        for done, batch in enumerate(batches, start=1):
            loss(forward(layout.model, batch), batch).backward()
            sums.close_batch(len(batch["input_ids"]))
            count += _count(batch, method.reduction)
            progress(f"scoring ({method.name})", done, len(batches))
    pairs = zip(sums.heads, sums.neurons, strict=True)
    means = [_finish(heads, neurons, count, method) for heads, neurons in pairs]
    examples = sum(len(batch["input_ids"]) for batch in batches)
    return Scores(
        kind=method.name,
        heads=tuple(heads for heads, _ in means),
        neurons=tuple(neurons for _, neurons in means),
        examples=examples,
    )


class _Sums:
    """Running sums of ``|⟨a, g⟩|ᵖ`` per unit, filled by tensor hooks.

    Gate gradients of a batch wait in `_pending` until the backward pass is through, one tensor for
    each list of units: a shared layer's hooks fire once for each use.
    """

    def __init__(self, layout: Layout, method: GradientScore) -> None:
        self.layout, self.method = layout, method
        self.heads = [torch.zeros(n, dtype=torch.float64) for n in layout.shape.n_heads]
        self.neurons = [torch.zeros(n, dtype=torch.float64) for n in layout.shape.ffn_widths]
        self._pending: dict[int, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block, every backward pass adds to the sums."""
        with ExitStack() as stack:
            for layer in self.layout.layers:
                heads = self._watch(self.heads[layer.index], self.layout.shape.head_width)
                stack.enter_context(hooked(layer, "heads", heads))
                neurons = self._watch(self.neurons[layer.index], 1)
                stack.enter_context(hooked(layer, "neurons", neurons))
            yield

    def _watch(self, sums: Tensor, width: int) -> Hook:
        def watch(activation: Tensor) -> Tensor:
            activation = (
                activation if activation.requires_grad else activation.detach().requires_grad_()
            )
            value = activation.detach()  # the hook must not hold its own tensor: a cycle leaks
            activation.register_hook(lambda gradient: self._note(sums, value * gradient, width))
            return activation

        return watch

    def _note(self, sums: Tensor, product: Tensor, width: int) -> None:
        """Keep one use's `product: (rows, sequence, units * width)`, activation × gradient."""
        gates = product.reshape(*product.shape[:-1], -1, width).sum(-1) if width > 1 else product
        if self.method.reduction != "token":
            gates = gates.sum(1)
        _, before = self._pending.get(id(sums), (sums, None))
        self._pending[id(sums)] = sums, gates if before is None else before + gates

    def close_batch(self, examples: int) -> None:
        """Add the sizes of what the last backward pass has left, over `examples` examples."""
        for sums, gates in self._pending.values():
            if self.method.reduction == "sequence":
                gates = gates.reshape(examples, -1, len(sums)).sum(1)
            elif self.method.reduction == "batch":
                gates = gates.sum(0)
            sizes = gates.abs() if self.method.power == 1 else gates.square()
            sums += sizes.reshape(-1, len(sums)).sum(0, dtype=torch.float64).cpu()
        self._pending.clear()


def _count(batch: Any, reduction: Reduction) -> int:
    if reduction == "token":
        return n_tokens(batch)
    return len(batch["input_ids"]) if reduction == "sequence" else 1


def _finish(
    heads: Tensor, neurons: Tensor, count: int, method: GradientScore
) -> tuple[Array, Array]:
    """One layer's sums as means, divided by their joint l2 norm if the method says so."""
    scale = 1.0 / max(count, 1)
    if method.layer_norm:
        norm = float(torch.cat([heads, neurons]).norm()) * scale
        scale /= norm + 1e-20
    return (heads * scale).numpy(), (neurons * scale).numpy()
