"""What goes into a graph: names, shapes, the longest sequence, and inputs made up for tests."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.model.task_head import head_of

__all__ = [
    "AXES",
    "CASES",
    "axes",
    "input_names",
    "longest_sequence",
    "made_up_inputs",
    "read_position",
]

AXES = ("batch", "choices", "sequence")

CASES = ("right-padded", "left-padded", "ragged", "batch-1", "long")

_LONG = 512
_CHOICES = 2


def input_names(model: PreTrainedModel, tokenizer_names: list[str]) -> tuple[str, ...]:
    """The inputs of the graph: what the tokenizer gives and the model's forward takes."""
    accepted = inspect.signature(model.forward).parameters
    return tuple(name for name in tokenizer_names if name in accepted)


def axes(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of the inputs' axes, the same for each of them."""
    return AXES if head_of(model).choices else (AXES[0], AXES[2])


def longest_sequence(model: PreTrainedModel) -> int | None:
    """Tokens of the longest sequence that the position embeddings carry; `None` if any length is.

    RoBERTa counts positions from its padding index on, so its table holds more rows than that.
    """
    for name, module in model.base_model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - offset
    longest = int(getattr(model.config, "max_position_embeddings", -1))
    return longest if longest > 0 else None


def read_position(model: PreTrainedModel) -> int:
    """The position whose states a sequence head reads: the first, or XLNet's last."""
    return -1 if getattr(model.config, "summary_type", None) == "last" else 0


def made_up_inputs(model: PreTrainedModel, names: tuple[str, ...], case: str) -> dict[str, Tensor]:
    """Random token ids with the padding that `case` names.

    Args:
        model: Says how many tokens, types and choices there are.
        names: Inputs to make.
        case: One of `CASES`; `long` is the longest sequence, 512 tokens at most.

    Returns:
        Each `(batch, sequence)`, or `(batch, choices, sequence)` for multiple choice, int64.
    """
    longest = min(longest_sequence(model) or _LONG, _LONG)
    rows, length = {"batch-1": (1, 7), "long": (2, longest)}.get(case, (3, 13))
    length = min(length, longest)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, model.config.vocab_size, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    if case in ("right-padded", "ragged"):
        mask[0, length // 2 :] = 0
    if case in ("left-padded", "ragged"):
        mask[-1, : length // 2] = 0
    types = (torch.arange(length) > length // 2).long().expand(rows, length)
    types = types * int(getattr(model.config, "type_vocab_size", 1) > 1)
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types.contiguous()}
    if head_of(model).choices:
        given = {k: torch.stack([v] * _CHOICES, dim=1) for k, v in given.items()}
        given["input_ids"] = (given["input_ids"] + torch.tensor([[0], [1]])).clamp_max(
            model.config.vocab_size - 1
        )
    return {name: given[name] for name in names}
