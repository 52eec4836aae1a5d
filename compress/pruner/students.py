"""Untrained students: some layers and units of a teacher, or a fresh model of a smaller config."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from compress.errors import PlanError, RecipeError
from compress.model.binding import bind
from compress.model.task_head import init_arguments, stock_class
from compress.plan.plan import LayerPlan, Plan
from compress.saliency.scorers import magnitude_scores

__all__ = ["fresh_student", "plan_of_sizes"]


def plan_of_sizes(
    teacher: PreTrainedModel,
    layers: Sequence[int],
    n_heads: int | None = None,
    n_neurons: int | None = None,
) -> Plan:
    """The plan that keeps chosen layers, and of each the heads and neurons of the largest weights.

    Args:
        teacher: The model that they are taken from.
        layers: Places in the teacher, from 0, in order.
        n_heads: Heads of each kept layer. Default: all.
        n_neurons: Neurons of each kept layer. Default: all.

    Raises:
        PlanError: The teacher has no such layers, or fewer units.
    """
    layout = bind(teacher)
    shape = layout.shape
    if shape.groups:
        raise PlanError(
            f"layers of {shape.model_type} are shared and cannot be chosen; use drop_layers"
        )
    wrong = [i for i in layers if not 0 <= i < shape.n_layers]
    if not layers or wrong or list(layers) != sorted(set(layers)):
        raise PlanError(
            f"layers must be chosen among 0 to {shape.n_layers - 1}, each once and in order, found "
            f"{list(layers)}; correct them"
        )
    scores = magnitude_scores(layout)
    kept = []
    for i in layers:
        heads = _largest(scores.heads[i], n_heads, "heads", i)
        neurons = _largest(scores.neurons[i], n_neurons, "neurons", i)
        kept.append(LayerPlan(source=i, heads=heads, neurons=neurons))
    return Plan(shape=shape, layers=tuple(kept), depth=len(kept))


def fresh_student(
    teacher: PreTrainedModel, changes: Mapping[str, object], seed: int = 0
) -> PreTrainedModel:
    """A model of random weights, of the teacher's class and a config that differs from its.

    Args:
        teacher: The model whose class, labels and vocabulary it shares.
        changes: New values of the config's fields.
        seed: Seed of the weights.

    Raises:
        RecipeError: The config has no such field, or no model can be made of it.
    """
    config = copy.deepcopy(teacher.config)
    for name, value in changes.items():
        if not hasattr(config, name):
            raise RecipeError(
                f"`changes` must name fields of the teacher's config, found {name!r}; see its "
                "config.json"
            )
        setattr(config, name, value)
    torch.manual_seed(seed)
    try:
        model: PreTrainedModel = stock_class(teacher)(config, **init_arguments(teacher))
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise RecipeError(
            f"`changes` must leave a config that a model can be made of, found {dict(changes)}: "
            f"{' '.join(str(error).split())[:160]}; correct it"
        ) from error
    model.config.architectures = [stock_class(teacher).__name__]
    bind(model)  # refuses what cannot be exported or pruned later
    model.eval()
    return model


def _largest(scores: np.ndarray, count: int | None, unit: str, layer: int) -> tuple[int, ...]:
    if count is None:
        return tuple(range(len(scores)))
    if not 1 <= count <= len(scores):
        raise PlanError(
            f"{unit} must be 1 to {len(scores)}, what layer {layer} has, found {count}; lower it"
        )
    return tuple(sorted(int(i) for i in np.argsort(-scores, kind="stable")[:count]))
