"""Silence for libraries that print, log and warn at every step, right or wrong."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

from transformers.utils import logging as transformers_logging

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block, nothing is printed, logged below errors, or warned of."""
    before, disabled = transformers_logging.get_verbosity(), logging.root.manager.disable
    transformers_logging.set_verbosity_error()
    logging.disable(max(disabled, logging.WARNING))
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        transformers_logging.set_verbosity(before)
