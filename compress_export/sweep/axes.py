"""From a sweep's file to its runs: every combination of the axes, each a recipe of its own.

Knows plain data alone, so that asking what is left to do needs no torch; a recipe is validated
where it is run.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from compress.errors import RecipeError
from compress_export.stages import STEPS
from compress_export.strict_yaml import read_yaml
from compress_export.sweep.steps import Need

__all__ = [
    "Combination",
    "Common",
    "Sweep",
    "combinations",
    "load_file",
    "load_sweep",
    "set_field",
]

Values = dict[str, Any]
_LABEL = "name"
File = TypeVar("File", bound="Common")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Common(_Part):
    """What is common to all runs.

    Attributes:
        parts: What the values of a field that is a mapping are made of.
    """

    parts: ClassVar[Mapping[str, type[BaseModel]]] = {"resources": Need}

    recipe: Values = Field(default_factory=dict, description="Fields of all recipes.")
    resources: dict[str, Need] = Field(
        default_factory=dict, description=f"What a step takes: {', '.join(STEPS)}."
    )
    retries: Annotated[int, Field(ge=0)] = Field(
        2, description="Times that a step is tried again when its worker or node is lost."
    )

    @field_validator("resources")
    @classmethod
    def _known_steps(cls, value: dict[str, Need]) -> dict[str, Need]:
        unknown = sorted(set(value) - set(STEPS))
        if unknown:
            raise ValueError(
                f"steps are {', '.join(STEPS)}, found {unknown[0]!r}; name one of them"
            )
        return value


class Sweep(Common):
    """What is common to all runs, and what differs."""

    axes: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        min_length=1,
        description="A recipe's field (dotted) and its values; or any name and, as values, "
        "mappings of fields, with an optional name each.",
    )
    exclude: list[Values] = Field(
        default_factory=list, description="Combinations to leave out, by the axes' values."
    )
    devices: Literal["any", "each"] = Field(
        "any", description="Each: every run once for each kind of device among the nodes."
    )

    @field_validator("exclude")
    @classmethod
    def _not_empty(cls, value: list[Values]) -> list[Values]:
        if any(not rule for rule in value):
            raise ValueError("an empty rule would leave out everything; name an axis and a value")
        return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Combination:
    """One value from every axis.

    Attributes:
        labels: Of each axis, as results have them.
        recipe: All fields, common ones and those of the axes.
    """

    labels: dict[str, Any]
    recipe: Values

    @property
    def slug(self) -> str:
        """The labels, fit for a folder's name."""
        words = [str(label) for label in self.labels.values()]
        return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(words)).strip("-.")[:60] or "run"


def load_sweep(path: Path) -> Sweep:
    """Read a sweep's file; recipes are validated when they are run.

    Raises:
        RecipeError: It cannot be read, or a field is wrong: names it, the value and the remedy.
    """
    sweep = load_file(path, Sweep)
    for axis, values in sweep.axes.items():
        labels = [_label(value) for value in values]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise RecipeError(
                f"sweep field 'axes.{axis}': values must differ by what they are called, found "
                f"{twice!r} twice; take one out, or give each a name of its own"
            )
    for rule in sweep.exclude:
        for axis, value in rule.items():
            _check_rule(sweep, axis, value)
    return sweep


def _check_rule(sweep: Sweep, axis: str, value: Any) -> None:
    if axis not in sweep.axes:
        raise RecipeError(
            f"sweep field 'exclude': axes are {', '.join(sweep.axes)}, found {axis!r}; name one of "
            "them"
        )
    if value not in sweep.axes[axis] and value not in map(_label, sweep.axes[axis]):
        known = ", ".join(str(_label(v)) for v in sweep.axes[axis])
        raise RecipeError(
            f"sweep field 'exclude': values of {axis} are {known}, found {value!r}; name one of "
            "them"
        )


def load_file(path: Path, kind: type[File]) -> File:
    """Read a YAML file of a sweep or a search.

    Raises:
        RecipeError: It cannot be read, or a field is wrong.
    """
    try:
        data = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = "no text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise RecipeError(
            f"sweep must be a readable YAML file, found {path} ({why}); name another"
        ) from error
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise RecipeError(f"sweep must be YAML, found {path} ({line}); correct it") from error
    if not isinstance(data, dict):
        known = ", ".join(kind.model_fields)
        raise RecipeError(f"sweep must be a mapping of {known}, found {data!r}; write one")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise RecipeError(_sentence(error, kind)) from error


def combinations(sweep: Sweep) -> list[Combination]:
    """Every combination that is not excluded, in the order of the axes.

    Raises:
        RecipeError: Two of them are the same, or none is left.
    """
    found: list[Combination] = []
    for values in itertools.product(*sweep.axes.values()):
        labels = dict(zip(sweep.axes, map(_label, values), strict=True))
        raw = dict(zip(sweep.axes, values, strict=True))
        if any(all(v in (labels[a], raw[a]) for a, v in rule.items()) for rule in sweep.exclude):
            continue
        recipe = dict(sweep.recipe)
        for axis, value in zip(sweep.axes, values, strict=True):
            for field, part in _fields(axis, value):
                recipe = set_field(recipe, field, part)
        same = next((c for c in found if c.recipe == recipe), None)
        if same is not None:
            raise RecipeError(
                f"axes must give each recipe once, found it twice: {same.labels} and {labels}; "
                "take a value out, or exclude one"
            )
        found.append(Combination(labels=labels, recipe=recipe))
    if not found:
        raise RecipeError("sweep must have a run, found that all are excluded; narrow `exclude`")
    return found


def set_field(recipe: Mapping[str, Any], field: str, value: Any) -> Values:
    """A copy of a recipe with a dotted field set.

    Example:
        >>> set_field({"target": {"batch": 8}}, "target.macs", 0.5)
        {'target': {'batch': 8, 'macs': 0.5}}
    """
    head, dot, rest = field.partition(".")
    if not dot:
        return {**recipe, head: value}
    inner = recipe.get(head) or {}
    if not isinstance(inner, dict):
        raise RecipeError(
            f"the axis {field!r} sets a part of {head!r}, found {inner!r} there; "
            f"name the whole field {head!r}"
        )
    return {**recipe, head: set_field(inner, rest, value)}


def _fields(axis: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The recipe's fields that an axis' value sets."""
    if not isinstance(value, dict):
        yield axis, value
        return
    yield from ((field, part) for field, part in value.items() if field != _LABEL)


def _label(value: Any) -> Any:
    if not isinstance(value, dict):
        return value if isinstance(value, str | int | float | bool) else str(value)
    given = value.get(_LABEL)
    return str(given) if given else ", ".join(str(v).rpartition("/")[2] for v in value.values())


def _sentence(error: ValidationError, kind: type[Common]) -> str:
    """One line for the first thing that is wrong."""
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    field = ".".join(str(part) for part in first["loc"] if "(" not in str(part))
    if first["type"] == "extra_forbidden":
        known = ", ".join(kind.parts.get(str(first["loc"][0]), kind).model_fields)
        of_recipes = " (a recipe's fields go under `recipe`)" if len(first["loc"]) == 1 else ""
        return f"sweep field {field!r} is unknown; known here: {known}; correct it{of_recipes}"
    if first["type"] == "missing":
        return f"sweep field {field!r} is required, found none; add it"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"sweep field {field!r}: {message}"
    return f"sweep field {field!r}: {message.lower()}, found {first['input']!r}; correct it"
