"""The one loop that learns masks; what kind they are is the gate's own business."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from compress.errors import TrainingError
from compress.learned.gate import MaskGate
from compress.model.batches import (
    Batch,
    Batches,
    Loss,
    Progress,
    forward,
    frozen,
    n_sequences,
    silent,
)
from compress.model.layout import Layout
from compress.validation import above, at_least, validate

__all__ = ["MaskSpec", "learn_masks"]

_ROWS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskSpec:
    """How masks are learnt.

    Attributes:
        steps: Updates, at most; a gate may end the training before.
        learning_rate: Learning rate of what is trained beside the gates (AdamW, linear decay).
        seed: Seed of the batches' order.
    """

    steps: int
    learning_rate: float = 2e-5
    seed: int = 0

    def __post_init__(self) -> None:
        validate(self, steps=at_least(1), learning_rate=above(0))


def learn_masks(
    layout: Layout,
    batches: Batches,
    loss: Loss,
    gate: MaskGate,
    spec: MaskSpec,
    *,
    trained: Sequence[nn.Parameter] = (),
    progress: Progress = silent,
) -> list[dict[str, float]]:
    """Train a gate on a model whose weights stay as they are, but for `trained`.

    Args:
        layout: The model, in evaluation mode throughout; it is left unpruned.
        batches: Training data.
        loss: Sum over the batch.
        gate: The gate that is learnt.
        spec: How long.
        trained: Weights that move too: a new task head, or all.
        progress: Called after every update.

    Returns:
        About a hundred rows of `step`, `loss` (of an example, without the penalty) and `kept`.

    Raises:
        TrainingError: The loss is no longer finite.
    """
    rows: list[dict[str, float]] = []
    mine = gate.optimizer()
    with frozen(layout.model), _taught(trained, spec) as theirs, gate.standing(layout):
        for step, batch in enumerate(_in_turn(batches, spec), start=1):
            done = (step - 1) / spec.steps
            gate.draw(done)
            mean = loss(forward(layout.model, batch), batch) / n_sequences(batch)
            _check_finite(mean, step)
            mine.zero_grad()
            (mean + gate.penalty(done).to(mean)).backward()
            mine.step()
            theirs.step()
            ended = gate.moved(step / spec.steps)
            if step % max(1, spec.steps // _ROWS) == 0 or ended:
                row = {"step": float(step), "loss": float(mean.detach()), "kept": gate.kept()}
                rows.append(row)
            progress("learning masks", spec.steps if ended else step, spec.steps)
            if ended:
                break
    return rows


def _in_turn(batches: Batches, spec: MaskSpec) -> Iterator[Batch]:
    """As many batches as there are steps, shuffled anew each time that all have been seen."""
    generator = np.random.default_rng(spec.seed)
    order: list[int] = []
    for _ in range(spec.steps):
        order = order or generator.permutation(len(batches)).tolist()
        yield batches[order.pop()]


class _Weights:
    """Weights that are trained beside a gate; there may be none."""

    def __init__(self, parameters: Sequence[nn.Parameter], spec: MaskSpec) -> None:
        self._parameters = list(parameters)
        self._optimizer = self._schedule = None
        if self._parameters:
            self._optimizer = torch.optim.AdamW(self._parameters, lr=spec.learning_rate)
            self._schedule = torch.optim.lr_scheduler.LinearLR(
                self._optimizer, 1.0, 0.0, total_iters=spec.steps
            )

    def step(self) -> None:
        """One update, the gradient's norm clipped at 1."""
        if self._optimizer is None or self._schedule is None:
            return
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()


@contextmanager
def _taught(parameters: Sequence[nn.Parameter], spec: MaskSpec) -> Iterator[_Weights]:
    """Within the block, `parameters` take gradients; afterwards they hold none."""
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield _Weights(parameters, spec)
    finally:
        for parameter in parameters:
            parameter.grad = None


def _check_finite(loss: Tensor, step: int) -> None:
    """Refuse a loss that is no number.

    Raises:
        TrainingError: Names the step.
    """
    if not bool(torch.isfinite(loss)):
        raise TrainingError(
            f"the loss must stay finite, found {float(loss.detach())} at step {step}; lower the "
            "learning rate, or look at the data"
        )
