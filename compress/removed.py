"""What stands in a layer where a whole sublayer has been pruned away.

A post-LN layer without attention still computes ``LayerNorm(x + b)``: the output bias and the
norm stay. Knows no family; `compress.surgery` decides what goes in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ConstantOutput", "RemovedAttention"]


class ConstantOutput(nn.Module):
    """An output projection with no inputs left: its bias, whatever comes in.

    Shape:
        any input to ``(hidden_size,)``, which broadcasts over ``(batch, sequence, hidden_size)``.
    """

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.detach().clone(), requires_grad=bias.requires_grad)

    def forward(self, _: Tensor) -> Tensor:
        """Return the bias."""
        return self.bias


class RemovedAttention(nn.Module):
    """An attention module with no heads left: the output bias, and the norm if it held one.

    Shape:
        ``(batch, sequence, hidden_size)`` to the same, and ``None`` for attention weights.
    """

    def __init__(self, bias: Tensor, norm: nn.Module | None) -> None:
        super().__init__()
        self.output = ConstantOutput(bias)
        self.norm = norm

    def forward(
        self, hidden_states: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, torch.Tensor | None]:
        """Return ``norm(x + b)``, or ``b`` where the norm belongs to the layer."""
        bias = self.output(hidden_states)
        return (bias if self.norm is None else self.norm(hidden_states + bias)), None
