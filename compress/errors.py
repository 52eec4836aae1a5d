"""The error tree. Each message is one line: what was expected, what was found, what to do.

Every package raises from this tree, in the words of its own arguments; an argument's name stands in
backticks, so that an application can put its own name for it there.
"""

from __future__ import annotations

__all__ = [
    "BudgetError",
    "BundleError",
    "CheckpointError",
    "DataError",
    "FusionError",
    "LayoutError",
    "ParityError",
    "PlanError",
    "PromiseError",
    "ProviderError",
    "RecipeError",
    "SpecError",
    "TableError",
    "ToolchainError",
    "TrainingError",
    "UnsupportedArchitectureError",
    "VerificationError",
]


class ToolchainError(Exception):
    """Any failure that the user can act on."""


class RecipeError(ToolchainError):
    """A recipe is wrong: path of the field, value, allowed values."""


class SpecError(ToolchainError, ValueError):
    """An option of a record is wrong: the option, the value, what it takes."""


class DataError(ToolchainError):
    """A task's files, columns or labels do not fit."""


class UnsupportedArchitectureError(ToolchainError):
    """No record exists for this `model_type`."""


class LayoutError(ToolchainError):
    """A record does not fit this model: layer, path, expected and found shape."""


class PlanError(ToolchainError):
    """Plan and model disagree: layer, unit, count."""


class BudgetError(ToolchainError):
    """No plan meets the budget; the message names the smallest share that can be reached."""


class TrainingError(ToolchainError):
    """Training cannot go on: the loss left the numbers, or a store does not fit."""


class TableError(ToolchainError):
    """A latency table is missing, unreadable, or of another model, machine or runtime."""


class CheckpointError(ToolchainError):
    """A model folder is missing, unreadable, unsafe or holds non-finite weights."""


class BundleError(ToolchainError):
    """A bundle's file is missing, edited or of another version, or its folder is not ours."""


class ProviderError(ToolchainError):
    """ONNX Runtime did not open the session on the execution provider that was asked for."""


class VerificationError(ToolchainError):
    """What was produced is not what was planned; never the fault of the input."""


class ParityError(VerificationError):
    """Outputs differ: variant, case, largest difference, tolerance."""


class PromiseError(VerificationError):
    """A promised latency was not met by any student that was measured."""


class FusionError(VerificationError):
    """The fused nodes of a graph contradict the plan."""
