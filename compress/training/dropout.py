"""Dropout rates of a live model, wherever its family keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["dropout_of"]


@contextmanager
def dropout_of(module: nn.Module, rate: float | None) -> Iterator[None]:
    """Within the block every dropout is of `rate`, if one is given."""
    places = [] if rate is None else list(_dropouts(module))
    before = [getattr(owner, name) for owner, name in places]
    for owner, name in places:
        setattr(owner, name, rate)
    try:
        yield
    finally:
        for (owner, name), value in zip(places, before, strict=True):
            setattr(owner, name, value)


def _dropouts(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Where dropout rates are kept: in modules of their own, or as an attention's attribute."""
    for owner in module.modules():
        if isinstance(owner, nn.Dropout):
            yield owner, "p"
        for name, value in vars(owner).items():
            if "dropout" in name and isinstance(value, float):
                yield owner, name
