"""How fast this machine is at what a run does: seconds of measuring, on the model itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from compress.model.batches import Batch, forward, frozen

__all__ = ["Rates", "measure_rates", "n_padded"]

_MOST_TOKENS = 1024
_TRIES, _LONG = 5, 4.0
_SIZE = 768
_CALLS = 300
_USUAL_PACE = 0.0084
"""Seconds that `_small_calls` takes where the constants of `seconds` were found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds of the parts that all steps are made of.

    Attributes:
        forward: The teacher's forward pass in torch, a token (padding counted).
        product: One float32 operation of a matrix product.
        factor: One float64 operation of a matrix inversion.
        pace: Of what Python does in between, such as tracing a graph: 1 where the constants of
            `seconds` were found, 2 on a machine that takes twice as long.
    """

    forward: float
    product: float
    factor: float
    pace: float


def measure_rates(model: PreTrainedModel, batch: Batch) -> Rates:
    """Measure on one batch, of which no more than about a thousand tokens are taken.

    Args:
        model: The teacher.
        batch: Of calibration data, of a usual length.
    """
    rows = max(1, _MOST_TOKENS // batch["input_ids"][0].numel())
    part = {name: values[:rows] for name, values in batch.items()}
    a = torch.randn(_SIZE, _SIZE)
    spread = a.double() @ a.double().T / _SIZE + torch.eye(_SIZE)
    operations = 2 * _SIZE**3
    with frozen(model), torch.no_grad():
        return Rates(
            forward=_fastest(lambda: forward(model, part)) / n_padded(part),
            product=_fastest(lambda: a @ a) / operations,
            factor=_fastest(lambda: torch.linalg.inv(spread)) / operations,
            pace=_on_one_thread(lambda: _fastest(_small_calls())) / _USUAL_PACE,
        )


def n_padded(batch: Batch) -> int:
    """Tokens of a batch, padding included: what a forward pass costs by."""
    return int(batch["input_ids"].numel())


def _small_calls() -> Callable[[], None]:
    """Calls so small that only what is around them takes time."""
    module, x = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.LayerNorm(4)), torch.ones(1, 4)

    def run() -> None:
        for _ in range(_CALLS):
            module(x)

    return run


def _on_one_thread(measure: Callable[[], float]) -> float:
    """What is measured with one thread: small calls on several wait for a busy core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return measure()
    finally:
        torch.set_num_threads(threads)


def _fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest of a few runs; of fewer where they take long."""
    best, spent = float("inf"), 0.0
    for _ in range(_TRIES):
        start = time.perf_counter()
        run()
        took = time.perf_counter() - start
        best, spent = min(best, took), spent + took
        if spent > _LONG:
            break
    return best
