"""What a model's head is: which outputs it gives, and which Auto class loads it.

A plan is of the encoder; the head stays as it is. What differs by head is told here once.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.errors import CheckpointError

__all__ = [
    "HEADS",
    "Likelihood",
    "TaskHead",
    "head_of",
    "init_arguments",
    "likelihood_of",
    "n_labels_of",
    "named_outputs",
    "stack_outputs",
    "stacked_outputs",
    "stock_class",
]


Likelihood: TypeAlias = Literal["categorical", "bernoulli", "gaussian"]
"""What a head's outputs parametrise: one choice among classes, a yes or no for each label, or
numbers (a regression's output, an embedding's features)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskHead:
    """One kind of head.

    Attributes:
        suffix: Suffix of its classes' names.
        auto_class: Its auto class in transformers.
        outputs: Names of what it gives; a plain encoder may have no `pooler_output`.
        choices: Its inputs are `(batch, choices, sequence)`.
        embeds: Its output is a representation and no distribution.
    """

    suffix: str
    auto_class: str
    outputs: tuple[str, ...] = ("logits",)
    choices: bool = False
    embeds: bool = False


_SPAN = ("start_logits", "end_logits")

HEADS: tuple[TaskHead, ...] = (
    TaskHead(
        suffix="ForSequenceClassification",
        auto_class="AutoModelForSequenceClassification",
    ),
    TaskHead(suffix="ForTokenClassification", auto_class="AutoModelForTokenClassification"),
    TaskHead(
        suffix="ForMultipleChoice",
        auto_class="AutoModelForMultipleChoice",
        choices=True,
    ),
    TaskHead(
        suffix="ForQuestionAnswering",
        auto_class="AutoModelForQuestionAnswering",
        outputs=_SPAN,
    ),
    TaskHead(
        suffix="ForQuestionAnsweringSimple",
        auto_class="AutoModelForQuestionAnswering",
        outputs=_SPAN,
    ),
    TaskHead(suffix="ForMaskedLM", auto_class="AutoModelForMaskedLM"),
    TaskHead(suffix="LMHeadModel", auto_class="AutoModelForCausalLM"),
    TaskHead(
        suffix="Model",
        auto_class="AutoModel",
        outputs=("last_hidden_state", "pooler_output"),
        embeds=True,
    ),
)


def head_of(model: PreTrainedModel | str) -> TaskHead:
    """The head of a model, or of a class of that name.

    Raises:
        CheckpointError: The class has a head that is not supported.

    Example:
        >>> head_of("BertForQuestionAnswering").outputs
        ('start_logits', 'end_logits')
    """
    name = model if isinstance(model, str) else stock_class(model).__name__
    for head in HEADS:
        if name.endswith(head.suffix) and name != "XLNetForQuestionAnswering":
            return head
    raise CheckpointError(
        f"config.architectures must name a class that ends with one of "
        f"{', '.join(head.suffix for head in HEADS)}, found {name!r}; load the model into such a "
        "class and save it again"
    )


def likelihood_of(model: PreTrainedModel) -> Likelihood:
    """What a model's outputs stand for: `config.problem_type` says so for sequence classifiers."""
    head = head_of(model)
    if head.embeds:
        return "gaussian"
    if head.suffix == "ForSequenceClassification":
        problem = getattr(model.config, "problem_type", None)
        if problem == "multi_label_classification":
            return "bernoulli"
        return "gaussian" if problem == "regression" or n_labels_of(model) == 1 else "categorical"
    return "categorical"


def n_labels_of(model: PreTrainedModel) -> int:
    """How many numbers a head gives: of each sequence, or of each token."""
    return int(model.config.num_labels or 0)


def named_outputs(model: PreTrainedModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Run the model and keep its head's outputs by name."""
    head, output = head_of(model), model(**inputs)
    found = {name: getattr(output, name, None) for name in head.outputs}
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def stacked_outputs(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    """Run the model and give its head's output as one tensor, classes (or features) last.

    Returns:
        `(batch, n_labels)`; `(batch, n_choices)`; `(batch, sequence, n_labels)` for tokens and
        masked language models; `(batch, 2, sequence)` for question answering, padding at the
        lowest value; `(batch, sequence, hidden_size)` for plain encoders.
    """
    outputs = named_outputs(model, inputs)
    return stack_outputs(head_of(model), list(outputs.values()), inputs["attention_mask"])


def stack_outputs(head: TaskHead, outputs: Sequence[Tensor], mask: Tensor) -> Tensor:
    """A head's outputs in their order as one tensor, see `stacked_outputs`."""
    if head.outputs != _SPAN:
        return outputs[0]
    spans = torch.stack(list(outputs), dim=1)
    return spans.masked_fill(mask[:, None] == 0, torch.finfo(spans.dtype).min)


def stock_class(model: PreTrainedModel) -> type[PreTrainedModel]:
    """The model's class in transformers, also where a checkpoint's own code derived from it."""
    for parent in type(model).__mro__:
        if parent.__module__.startswith("transformers.models."):
            return parent
    return type(model)


def init_arguments(model: PreTrainedModel) -> dict[str, Any]:
    """What `model`'s stock class is to be called with beside the config, to be built alike."""
    name = "add_pooling_layer"
    if name not in inspect.signature(stock_class(model).__init__).parameters:
        return {}
    return {name: getattr(model, "pooler", None) is not None}
