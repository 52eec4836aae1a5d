"""What the user asked to be served: `STACK` or `STACK@PRECISION`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.errors import RecipeError
from export.precision.variants import VariantName
from export.serving.stack import Precision, Stack
from export.serving.stacks import STACKS

__all__ = ["SERVING", "Order", "parse_order", "parse_orders", "served", "variants_of"]

SERVING = "serving"


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One folder to write or to verify.

    Attributes:
        stack: That loads it.
        precision: Of its graph; none where the stack's usual ones are meant.
    """

    stack: Stack
    precision: Precision | None = None

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What the folder holds."""
        return self.stack.first if self.precision is None else (self.precision,)

    @property
    def folder(self) -> str:
        """Its name under `serving/`."""
        name = self.stack.name
        return name if self.precisions == self.stack.first else f"{name}-{self.precision}"

    def __str__(self) -> str:
        """As the user would write it."""
        return self.folder.replace(f"{self.stack.name}-", f"{self.stack.name}@")


def parse_order(text: str) -> Order:
    """Read `STACK` or `STACK@PRECISION`.

    Raises:
        RecipeError: There is no such stack, or it takes no such precision.

    Example:
        >>> parse_order("triton@int8").folder
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
    return Order(stack=stack, precision=known)


def served(orders: Sequence[Order]) -> list[tuple[str, str]]:
    """Stack and folder in the bundle, of each order."""
    return [(order.stack.title, f"{SERVING}/{order.folder}") for order in orders]


def parse_orders(texts: Sequence[str]) -> list[Order]:
    """Read several, one a folder.

    Raises:
        RecipeError: See `parse_order`.
    """
    orders = {order.folder: order for order in map(parse_order, texts)}
    return list(orders.values())


def variants_of(orders: Sequence[Order]) -> tuple[VariantName, ...]:
    """The variants whose graphs go into the folders."""
    found = [order.stack.graphs[p][1] for order in orders for p in order.precisions]
    return tuple(dict.fromkeys(found))
