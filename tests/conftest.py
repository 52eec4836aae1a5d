"""Fixtures: no network, fixed seeds, where the real data is."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ.setdefault("TQDM_DISABLE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: one thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from export.precision import int8_check


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def glue_dir() -> Path:
    """The folder of real GLUE, from GLUE_DIR; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("GLUE_DIR", "../shared/glue")).resolve()
    if not (folder / "SST-2").is_dir():
        pytest.skip(f"real GLUE is not at {folder}; set GLUE_DIR to run this test")
    return folder


@pytest.fixture(autouse=True, scope="session")
def tiny_models_hardly_vary() -> Iterator[None]:
    """Answers of random tiny models vary about as little from text to text as int8 changes them.

    The product's own bound is held by `tests/export/test_int8_check.py`, on models that vary more.
    """
    before = int8_check.TOLERANCES["texts"]
    int8_check.TOLERANCES["texts"] = 3.0
    yield
    int8_check.TOLERANCES["texts"] = before
