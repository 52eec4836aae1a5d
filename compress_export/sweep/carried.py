"""What is carried to a node by value, so that one without this package can say so."""

from __future__ import annotations

from typing import Any

__all__ = ["call"]


def call(name: str, *arguments: Any) -> Any:
    """Do `name` of `compress_export.sweep.work` on the node that this has come to."""
    from importlib import import_module

    import_module("compress_export.workers").calm()
    return getattr(import_module("compress_export.sweep.work"), name)(*arguments)
