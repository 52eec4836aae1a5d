"""The steps of a run as a sweep schedules them: what each takes, and which need an idle device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Need", "is_measured", "measures"]


class Need(BaseModel):
    """What a step takes of its node while it runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Cores; left out, an even part of the node's."
    )
    gpus: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="A GPU, or a share of one; left out, an even part where there are any."
    )
    memory_gb: Annotated[float, Field(ge=0)] = Field(0, description="Memory, in GB.")


def measures(step: str, recipe: Mapping[str, Any]) -> bool:
    """Whether a step times something, so that nothing else may use the device meanwhile.

    The last step always does. The first does where the target is a measured latency: a table is
    made, and students are timed until one keeps the promise.

    Example:
        >>> measures("prune", {"target": {"speedup": 2}}), measures("prune", {})
        (True, False)
    """
    if step == "bench":
        return True
    return step == "prune" and is_measured(recipe)


def is_measured(recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe's target is a latency on the device that it runs on."""
    target = recipe.get("target")
    target = target if isinstance(target, dict) else {}
    return any(target.get(name) is not None for name in ("speedup", "latency_ms"))
