"""Which part of a teacher's hidden states is worth keeping: depth, length and width.

After Liu et al. 2021 ("Marginal Utility Diminishes", arXiv 2106.05691, section 3). There features
are chosen over a whole batch, and those left out are set to 0; here they are chosen by example and
token, so that they can be stored, and what is left out does not count. Tensors in, indices out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from compress.errors import RecipeError
from compress.validation import at_least, share, validate

__all__ = ["CacheSpec", "FeatureChoice", "TokenChoice", "choose_features", "choose_tokens"]

TokenChoice = Literal["attention", "left"]
FeatureChoice = Literal["magnitude", "random", "uniform"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheSpec:
    """How much of a teacher's hidden states to keep.

    Attributes:
        depth: Upper layers of the student that learn, each from a layer of the teacher; all, the
            embeddings too, if left out. 0 keeps logits alone.
        max_tokens: Tokens of an example; all if left out.
        feature_fraction: Share of the features of a token.
        tokens: By the teacher's attention from its first token, separators aside, or from the
            left.
        features: The largest ones, random ones, or evenly spaced ones.
        seed: Seed of random features.
    """

    depth: int | None = 1
    max_tokens: int | None = 10
    feature_fraction: float = 0.1
    tokens: TokenChoice = "attention"
    features: FeatureChoice = "magnitude"
    seed: int = 0

    def __post_init__(self) -> None:
        validate(self, depth=at_least(0), max_tokens=at_least(1), feature_fraction=share())

    def n_features(self, hidden_size: int) -> int:
        """Features of a token that are kept."""
        return max(1, round(self.feature_fraction * hidden_size))

    def pairs(self, pairs: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        """The upper ones of all pairs of layers; with the embeddings where all are kept.

        Raises:
            RecipeError: There are not so many.
        """
        if self.depth is not None and self.depth > len(pairs) + 1:
            raise RecipeError(
                f"`depth` must be at most {len(pairs) + 1}, the student's {len(pairs)} "
                f"layers and its embeddings, found {self.depth}; lower it"
            )
        if self.depth is None or self.depth > len(pairs):
            return ((0, 0), *pairs)
        return pairs[len(pairs) - self.depth :]


def choose_tokens(
    spec: CacheSpec,
    mask: Tensor,
    separators: Tensor,
    attention: Tensor | None = None,
) -> Tensor:
    """Positions of the tokens to keep, in their order.

    Args:
        spec: How many are kept, and by which rule.
        mask: `(batch, sequence)`, 1 at real tokens.
        separators: `(batch, sequence)`, True at separators, which `attention` takes last.
        attention: Probabilities of a layer of the teacher, `(batch, heads, sequence, sequence)`;
            wanted where tokens are chosen by it.

    Returns:
        `(batch, n)`, -1 where an example has fewer.
    """
    real = mask.bool()
    n = mask.shape[1] if spec.max_tokens is None else min(spec.max_tokens, mask.shape[1])
    if spec.tokens == "left" or n == mask.shape[1]:
        feature_indices = torch.arange(mask.shape[1], dtype=torch.float32, device=mask.device)
        worth = -feature_indices.expand(mask.shape)
    else:
        assert attention is not None  # the store asks for it
        rows, first = torch.arange(len(mask), device=mask.device), real.int().argmax(1)
        worth = attention.float().mean(1)[rows, first]
        worth = torch.where(separators, worth - 10.0, worth)
    worth = worth.masked_fill(~real, -torch.inf)
    order = worth.topk(n, dim=1).indices
    chosen = torch.where(real.gather(1, order), order, mask.shape[1])
    chosen = chosen.sort(dim=1).values
    return torch.where(chosen < mask.shape[1], chosen, -1)


def choose_features(spec: CacheSpec, states: Tensor, generator: torch.Generator) -> Tensor:
    """Places of the features to keep, in their order.

    Args:
        spec: How many are kept, and by which rule.
        states: Hidden states of the kept tokens, `(batch, n_tokens, hidden_size)`.
        generator: Random generator for random features.

    Returns:
        `(batch, n_tokens, n_features)`.
    """
    size = states.shape[-1]
    n = spec.n_features(size)
    if spec.features == "uniform" or n == size:
        feature_indices = torch.arange(n) * size // n
        return feature_indices.expand(*states.shape[:-1], n)
    worth = states.abs()
    if spec.features == "random":
        worth = torch.rand(states.shape, generator=generator)
    return worth.topk(n, dim=-1).indices.sort(dim=-1).values
