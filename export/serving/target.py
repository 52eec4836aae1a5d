"""What the user asked to be served: `STACK` or `STACK@PRECISION`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.errors import RecipeError
from export.precision.variants import VariantName
from export.serving.stack import Precision, Stack
from export.serving.stacks import STACKS

__all__ = ["SERVING", "ServingTarget", "parse_target", "parse_targets", "served", "variants_of"]

SERVING = "serving"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingTarget:
    """One folder to write or to verify.

    Attributes:
        stack: The stack that loads it.
        precision: Precision of its graph; `None` for the stack's default precisions.
    """

    stack: Stack
    precision: Precision | None = None

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What the folder holds."""
        return self.stack.default_precisions if self.precision is None else (self.precision,)

    @property
    def folder(self) -> str:
        """Its name under `serving/`."""
        name = self.stack.name
        return (
            name if self.precisions == self.stack.default_precisions else f"{name}-{self.precision}"
        )

    def __str__(self) -> str:
        """As the user would write it."""
        return self.folder.replace(f"{self.stack.name}-", f"{self.stack.name}@")


def parse_target(text: str) -> ServingTarget:
    """Read `STACK` or `STACK@PRECISION`.

    Raises:
        RecipeError: There is no such stack, or it takes no such precision.

    Example:
        >>> parse_target("triton@int8").folder
        'triton-int8'
    """
    name, at, precision = text.partition("@")
    stack = next((stack for stack in STACKS if stack.name == name), None)
    if stack is None:
        raise RecipeError(
            f"a serving stack must be one of {', '.join(s.name for s in STACKS)}, found {name!r}; "
            "correct it"
        )
    known = next((p for p in stack.graphs if p == precision), None)
    if at and known is None:
        raise RecipeError(
            f"{name} must be served in one of {', '.join(stack.graphs)}, found {precision!r}; "
            f"correct it, or write {name} alone"
        )
    return ServingTarget(stack=stack, precision=known)


def served(targets: Sequence[ServingTarget]) -> list[tuple[str, str]]:
    """Stack and folder in the bundle, of each target."""
    return [(target.stack.title, f"{SERVING}/{target.folder}") for target in targets]


def parse_targets(texts: Sequence[str]) -> list[ServingTarget]:
    """Read several, one a folder.

    Raises:
        RecipeError: See `parse_target`.
    """
    targets = {target.folder: target for target in map(parse_target, texts)}
    return list(targets.values())


def variants_of(targets: Sequence[ServingTarget]) -> tuple[VariantName, ...]:
    """The variants whose graphs go into the folders."""
    found = [target.stack.graphs[p][1] for target in targets for p in target.precisions]
    return tuple(dict.fromkeys(found))
