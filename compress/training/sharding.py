"""Training whose weights are sharded over processes (FSDP), as `accelerate` configures it."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from compress.errors import RecipeError

__all__ = ["is_sharded", "unsharded"]


def is_sharded() -> bool:
    """Whether the launcher asked for fully sharded training."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


@contextmanager
def unsharded(module: nn.Module, precision: str) -> Iterator[nn.Module]:
    """Yield what is to be trained; afterwards `module` has the trained weights, whole.

    Sharding changes modules for good, so it is a copy that is sharded.

    Args:
        module: The module to train.
        precision: Precision of its products; float16 would need scaled gradients.

    Raises:
        RecipeError: That precision is asked for, or the first version of FSDP, which moves weights
            out of the places that losses look at.
    """
    if not is_sharded():
        yield module
        return
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise RecipeError(
            f"fsdp_version must be 2, found {os.environ.get('FSDP_VERSION', '1')}; set it in the "
            "configuration of accelerate, see recipes/accelerate/fsdp.yaml"
        )
    if precision == "fp16":
        raise RecipeError("precision must be fp32 or bf16 under FSDP, found fp16; choose bf16")
    shards = copy.deepcopy(module)
    yield shards
    _gather(shards, module)


def _gather(shards: nn.Module, module: nn.Module) -> None:
    """Copy weights back, one at a time; every process takes part."""
    whole = module.state_dict()
    with torch.no_grad():
        for name, value in shards.state_dict().items():
            found = value.full_tensor() if isinstance(value, DTensor) else value
            whole[name].copy_(found)
