"""What stands in a layer where a whole sublayer has been pruned away.

A post-LN layer without attention still computes ``LayerNorm(x + b)``: the output bias and the
norm stay. Knows no family; `compress.model.surgery` decides what goes in.
"""

from __future__ import annotations

from torch import Tensor, nn

from compress.architectures.record import AttentionOutput

__all__ = ["ConstantOutput", "RemovedAttention"]


class ConstantOutput(nn.Module):
    """An output projection with no inputs left: its bias, or zeros, whatever comes in.

    Shape:
        any input to ``(hidden_size,)``, which broadcasts over ``(batch, sequence, hidden_size)``;
        in training to that shape itself, so that dropout after it is drawn for each token.
    """

    def __init__(self, width: int, bias: Tensor | None = None) -> None:
        super().__init__()
        self.width = width
        self.bias = (
            None
            if bias is None
            else nn.Parameter(bias.detach().clone(), requires_grad=bias.requires_grad)
        )

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return the bias."""
        bias = hidden_states.new_zeros(self.width) if self.bias is None else self.bias
        return bias.expand(*hidden_states.shape[:-1], -1) if self.training else bias


class RemovedAttention(nn.Module):
    """An attention module with no heads left: the output bias, and the norm if it held one.

    Shape:
        ``(batch, sequence, hidden_size)`` to the same, and ``None`` for attention weights; with
        two streams (XLNet) the second takes the place of the weights.
    """

    def __init__(
        self,
        output: ConstantOutput,
        kind: AttentionOutput,
        norm: nn.Module | None = None,
        streams: int = 1,
    ) -> None:
        super().__init__()
        self.output, self.kind, self.norm, self.streams = output, kind, norm, streams

    def forward(
        self, hidden_states: Tensor, *others: Tensor | None, **_: object
    ) -> tuple[Tensor, Tensor | None]:
        """Return ``norm(x + b)``, ``x + b`` or ``b``, as the attention that stood here did."""
        query = others[0] if self.streams > 1 else None
        return self._stream(hidden_states), None if query is None else self._stream(query)

    def _stream(self, hidden_states: Tensor) -> Tensor:
        bias: Tensor = self.output(hidden_states)
        if self.kind == "bare":
            return bias
        total = hidden_states + bias
        return total if self.norm is None else self.norm(total)
