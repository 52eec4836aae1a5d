"""Records of options check themselves: each wrong word or number is named with what is allowed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

from compress.errors import SpecError

__all__ = ["Range", "above", "at_least", "share", "validate"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Numbers that an option takes.

    Attributes:
        low: The smallest.
        high: The largest.
        open_low: Whether `low` itself is refused.
        open_high: Whether `high` itself is refused.
    """

    low: float = float("-inf")
    high: float = float("inf")
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low or (value == self.low and not self.open_low)
        below = value < self.high or (value == self.high and not self.open_high)
        return above and below

    def __str__(self) -> str:
        parts = []
        if self.low > float("-inf"):
            parts.append(f"above {self.low:g}" if self.open_low else f"at least {self.low:g}")
        if self.high < float("inf"):
            parts.append(f"below {self.high:g}" if self.open_high else f"at most {self.high:g}")
        return " and ".join(parts)


def at_least(low: float) -> Range:
    """Numbers from `low` on."""
    return Range(low=low)


def above(low: float) -> Range:
    """Numbers above `low`."""
    return Range(low=low, open_low=True)


def share(*, zero: bool = False, one: bool = True) -> Range:
    """Numbers between 0 and 1; whether the ends themselves are taken."""
    return Range(low=0, high=1, open_low=not zero, open_high=not one)


def validate(record: object, **ranges: Range) -> None:
    """Check a dataclass of options: words by the types of its fields, numbers by `ranges`.

    Args:
        record: An instance of a dataclass whose words are annotated with `Literal`.
        ranges: By field: numbers that it takes. A field that is None is left alone.

    Raises:
        SpecError: A field holds something else. The message names it, the value and the choices.

    Example:
        >>> @dataclass
        ... class Spec:
        ...     layout: Literal["free", "uniform"] = "free"
        >>> validate(Spec("unifrom"))
        Traceback (most recent call last):
        compress.errors.SpecError: Spec.layout: 'unifrom' is not one of 'free', 'uniform'; did you \
mean 'uniform'?
    """
    kind: Any = type(record)
    for name, (words, others, several) in _words(kind).items():
        value = getattr(record, name)
        _check_words(f"{kind.__name__}.{name}", value, words, others, several=several)
    for name, numbers_of in _numbers(kind).items():
        value = getattr(record, name)
        if value is None and None in numbers_of:
            continue
        _check_number(f"{kind.__name__}.{name}", value, numbers_of, ranges.get(name, Range()))


def _check_words(
    name: str, value: Any, words: tuple[Any, ...], others: tuple[type, ...], *, several: bool
) -> None:
    if isinstance(value, others) and (str in others or not isinstance(value, str)):
        return
    if several and (isinstance(value, str) or not isinstance(value, Iterable)):
        raise SpecError(f"{name}: {value!r} is not a tuple of {_listed(words)}")
    for word in value if several else (value,):
        if word not in words:
            near = difflib.get_close_matches(str(word), [str(w) for w in words], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SpecError(f"{name}: {word!r} is not one of {_listed(words)}{hint}")


def _check_number(name: str, value: Any, kinds: tuple[Any, ...], allowed: Range) -> None:
    if bool in kinds:
        if not isinstance(value, bool):
            raise SpecError(f"{name}: {value!r} is not True or False")
        return
    if isinstance(value, bool) or not isinstance(value, Real):
        raise SpecError(f"{name}: {value!r} is not a number")
    if float not in kinds and not isinstance(value, Integral):
        raise SpecError(f"{name}: {value!r} is not a whole number")
    if not math.isfinite(value) or float(value) not in allowed:
        wanted = str(allowed) or "finite"
        raise SpecError(f"{name}: {value!r} is not {wanted}; choose another number")


@cache
def _numbers(kind: Any) -> dict[str, tuple[Any, ...]]:
    """By field that takes numbers, True or False: the types that it takes, None among them."""
    found: dict[str, tuple[Any, ...]] = {}
    hints = get_type_hints(kind)
    for name, hint in ((field.name, hints[field.name]) for field in fields(kind)):
        kinds = tuple(None if part is type(None) else part for part in get_args(hint) or (hint,))
        if set(kinds) <= {int, float, bool, None}:
            found[name] = kinds
    return found


@cache
def _words(kind: Any) -> dict[str, tuple[tuple[Any, ...], tuple[type, ...], bool]]:
    """By field that takes words: the words, other types that it takes, whether it takes several."""
    hints = get_type_hints(kind)
    found = {field.name: _choices(hints[field.name]) for field in fields(kind)}
    return {name: choices for name, choices in found.items() if choices is not None}


def _choices(hint: Any) -> tuple[tuple[Any, ...], tuple[type, ...], bool] | None:
    if get_origin(hint) is Literal:
        return get_args(hint), (), False
    if get_origin(hint) is tuple and get_args(hint)[1:] == (...,):
        inner = _choices(get_args(hint)[0])
        return None if inner is None or inner[2] else (*inner[:2], True)
    parts = get_args(hint)
    literals = [choices for choices in map(_choices, parts) if choices is not None]
    if get_origin(hint) is None or len(literals) != 1:
        return None
    kinds = (get_origin(part) or part for part in parts)
    words, inner_others, several = literals[0]
    others = tuple(
        kind for kind in kinds if isinstance(kind, type) and not (several and kind is tuple)
    )
    return words, (*others, *inner_others), several


def _listed(words: tuple[Any, ...]) -> str:
    return ", ".join(map(repr, words))
