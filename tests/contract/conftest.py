"""Exports each student once for all tests of a file that look at it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from compress.model.binding import bind
from compress.model.surgery import apply_
from export.bundle import Exported, export_variant
from export.precision.variants import variant
from tests.families import feeds, keeping, tiny, uneven
from tests.tokenizer import tiny_tokenizer

Export: TypeAlias = Callable[..., tuple[Exported, Path]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Exports each student once for all tests that look at it."""
    root = tmp_path_factory.mktemp("exports")

    @functools.cache
    def export(
        family: str, name: str, head: str = "sequence", removed: bool = False
    ) -> tuple[Exported, Path]:
        model = tiny(family, head=head)
        plan = keeping(bind(model).shape, 1, 0, 0) if removed else uneven(bind(model).shape)
        apply_(model, plan)
        folder = root / f"{family}-{name}-{head}-{removed}"
        tokenizer, texts = tiny_tokenizer(family), feeds(family)
        return export_variant(model, tokenizer, variant(name), folder, texts), folder

    return export
