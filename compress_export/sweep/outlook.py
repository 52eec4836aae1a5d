"""What the runs of a sweep will take, foretold one by one on this machine. Loads torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel

from compress.checkpoint.checkpoint import load
from compress.errors import ToolchainError
from compress_export.context import Context
from compress_export.forecast import Forecast, Rates, forecast, rates_of
from compress_export.recipe import make_recipe
from compress_export.sweep.ledger import Entry

__all__ = ["outlook"]


def outlook(entries: Sequence[Entry], base: Path) -> dict[str, Forecast | str]:
    """A forecast of each run, by its name; where there can be none here, why.

    Args:
        entries: Runs to do.
        base: The folder that recipes' paths are taken from.
    """
    models: dict[str, PreTrainedModel] = {}
    rates: dict[str, Rates] = {}

    def read(source: str) -> PreTrainedModel:
        if source not in models:
            models.clear()  # one in memory at a time
            models[source] = load(source)
        return models[source]

    found: dict[str, Forecast | str] = {}
    for entry in entries:
        context = Context(make_recipe(entry.recipe), base, read)
        try:
            source = context.model_source
            rates[source] = rates.get(source) or rates_of(context)
            found[entry.run] = forecast(context, rates=rates[source])
        except ToolchainError as error:  # another node may have what is not here
            found[entry.run] = str(error)
    return found
