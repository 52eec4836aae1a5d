"""The plan in a checkpoint's config: written there, read, and made a model's shape again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from compress.architectures import architecture_for
from compress.checkpoint.remote_code import module_table, remote_code
from compress.checkpoint.verify import MODELING
from compress.errors import CheckpointError, PlanError
from compress.model.binding import bind
from compress.model.surgery import apply_
from compress.model.task_head import head_of, init_arguments, stock_class
from compress.plan.plan import Plan
from compress.plan.stock_config import stock_attributes, update_config_

__all__ = [
    "BLOCK",
    "describe_",
    "model_class",
    "restore_",
    "skeleton",
    "stored_plan",
    "whole_plan",
]

BLOCK = "compress_export"
"""Of config.json."""


def stored_plan(config: PreTrainedConfig) -> Plan | None:
    """The plan in a pruned checkpoint's config; `None` for a stock one.

    Raises:
        PlanError: The block is there and is no plan.
    """
    block = getattr(config, BLOCK, None)
    if block is None:
        return None
    if not isinstance(block, dict) or "plan" not in block:
        raise PlanError(f"config.json's {BLOCK!r} must hold a plan, found {type(block).__name__}")
    return Plan.from_dict(block["plan"])


def whole_plan(config: PreTrainedConfig, plan: Plan) -> Plan:
    """The plan from the stock model on, where `plan` begins at what the config says."""
    earlier = stored_plan(config)
    return plan if earlier is None else earlier.then(plan)


def describe_(config: PreTrainedConfig, model: PreTrainedModel, plan: Plan, folder: Path) -> None:
    """Put the plan into the config, and write remote code where stock classes cannot load."""
    name = stock_class(model).__name__
    arguments = init_arguments(model)
    block: dict[str, Any] = {"plan": plan.to_dict(), "class": name, "arguments": arguments}
    config.architectures = [name]
    if hasattr(config, "auto_map"):
        del config.auto_map
    if stock_attributes(architecture_for(config.model_type), plan) is None:
        block["modules"] = module_table(bind(model), plan)
        config.auto_map = {head_of(name).auto_class: f"{MODELING}.CompressedModel"}
        (folder / f"{MODELING}.py").write_text(remote_code(name), encoding="utf-8")
    setattr(config, BLOCK, block)


def restore_(config: PreTrainedConfig, previous: dict[str, Any]) -> None:
    """Give a config back what it had before `describe_`; what is `None` it did not have."""
    for name, value in previous.items():
        if value is not None:
            setattr(config, name, value)
        elif hasattr(config, name):
            delattr(config, name)


def model_class(config: PreTrainedConfig) -> Any:
    """The class that the config names; of a student, the one that its plan was made on.

    Raises:
        CheckpointError: It names none of transformers, or one of another family.
    """
    block = getattr(config, BLOCK, None) or {}
    names = [block["class"]] if "class" in block else config.architectures or []
    found = getattr(transformers, names[0], None) if names else None
    if found is None:
        raise CheckpointError(
            f"config.architectures must name a class of transformers, found {names}; "
            "save the model with save_pretrained"
        )
    if found.config_class is not type(config):
        raise CheckpointError(
            f"config.model_type and config.architectures must be of one family, found "
            f"{config.model_type!r} and {names}; correct config.json"
        )
    return found


def skeleton(config: PreTrainedConfig, **arguments: Any) -> PreTrainedModel:
    """A model of a config's shape, by the plan in it if there is one, of no particular weights.

    Args:
        config: Stock, or with a plan.
        arguments: Arguments of a stock model's class, beside the config.

    Raises:
        PlanError, CheckpointError: The config holds no such plan, or names no class.
    """
    plan = stored_plan(config)
    if plan is None:
        stock: PreTrainedModel = model_class(config)(config, **arguments)
        return stock
    update_config_(config, architecture_for(config.model_type), Plan.full(plan.shape))
    if hasattr(config, "auto_map"):
        del config.auto_map
    own = getattr(config, BLOCK).get("arguments", {})
    model: PreTrainedModel = model_class(config)(config, **own)
    apply_(model, plan)
    return model
