"""From what pydantic found wrong with a recipe to one line for its user."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from compress_export.recipe_parts import BareTexts, MixPoint, OwnData

__all__ = ["nearest", "sentence"]

_TAGS = ("OwnData", "BareTexts", "str", "list[MixPoint]", "literal['data']")


def sentence(error: ValidationError, fields: Mapping[str, Any]) -> str:
    """One line for the first thing that is wrong with a recipe.

    Args:
        error: As pydantic raised it.
        fields: Of the whole recipe.
    """
    errors = error.errors()
    first = min(errors, key=lambda e: e["type"] != "extra_forbidden")
    place, unknown = list(first["loc"]), first["type"] == "extra_forbidden"
    key = [str(place.pop())] if unknown else []  # the user's own word, whatever is in it
    path = [str(p) for p in place if p not in _TAGS and "[" not in str(p)] + key
    field = ".".join(path)
    if unknown:
        known = list(_fields_at(path[:-1], fields, "BareTexts" in first["loc"]))
        return (
            f"recipe field {field!r} is unknown{nearest(path[-1], known)}; "
            f"known here: {', '.join(known)}"
        )
    if first["type"] == "missing":
        return f"recipe field {field!r} is required, found none; add it"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"recipe field {field!r}: {message}" if field else f"recipe: {message}"
    wanted = message[:1].lower() + message[1:]
    return f"recipe field {field!r}: {wanted}, found {first['input']!r}; correct it"


def _fields_at(path: list[str], fields: Mapping[str, Any], bare_texts: bool) -> Mapping[str, Any]:
    """The fields of the part at `path`; places in lists are passed by."""
    for name in path:
        if name.isdigit():
            continue
        own: Any = BareTexts if bare_texts else OwnData
        if name == "mix":
            own = MixPoint
        kind = own if name in ("task", "mix") else fields[name].annotation
        fields = dict(kind.model_fields)
    return fields


def nearest(name: str, known: list[str]) -> str:
    """A question after the known word that is most like `name`; nothing where none is."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
