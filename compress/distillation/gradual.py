"""Prune while training: gates close little by little, as their moving importance says.

GRAIN (Yang et al. 2023, "Gradient-based Intra-attention Pruning", arXiv 2212.07634), on whole heads
and neurons: a moving average of ``|∂L/∂ξ| = |⟨∇_w L, w⟩|`` by update, a cubic schedule, gradient
separation (the importance hears the logits' loss alone), and a regularisation that empties small
attention sublayers so that they go whole. A closed gate may open again while the schedule lasts.

The paper's units of attention are single features. A head's importance is that of its value
features, added up, and as much again for its queries and keys: one gate for the whole head would
hear a sum in which they cancel out, and heads would go before neurons that matter less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import TrainerCallback

from compress.errors import SpecError
from compress.model.gating import gated
from compress.model.layout import Layout
from compress.plan.cost import CostModel
from compress.plan.plan import Plan
from compress.saliency.scorers import Scores
from compress.search.plan_search import plan_by_scores
from compress.validation import above, at_least, share, validate

__all__ = ["Closing", "Gates", "GradualSpec", "scheduled_share"]

_FEW = 300
"""Updates: 115 lost a student of MRPC to its larger class, 421 kept one of SST-2."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GradualSpec:
    """How gates close.

    Attributes:
        share: Share of the encoder's cost that is left in the end.
        cost: The cost model that the share is counted in.
        start: Share of the training before the first gate closes.
        end: Share of it after which no gate changes.
        smoothing: Weight of the old value in the moving average, per update.
        regularisation: A head's importance is multiplied by ``tanh(D / regularisation)``, with D
            the share of its sublayer's heads that are left, of at least one.
        round_to: FFN widths are multiples of it.
    """

    share: float
    cost: CostModel
    start: float = 0.2
    end: float = 0.4
    smoothing: float = 0.998
    regularisation: float = 0.3
    round_to: int = 16

    def __post_init__(self) -> None:
        validate(
            self,
            share=share(one=False),
            start=share(zero=True),
            end=share(),
            smoothing=share(zero=True, one=False),
            regularisation=above(0),
            round_to=at_least(1),
        )
        if self.start >= self.end:
            raise SpecError(f"GradualSpec.start: {self.start:g} is not below end, {self.end:g}")


def scheduled_share(spec: GradualSpec, done: float) -> float:
    """What may be left when a share `done` of the training is over (GRAIN, equation 8).

    Example:
        >>> spec = GradualSpec(share=0.2, cost=CostModel(unit="macs", sequence=64))
        >>> [round(scheduled_share(spec, t), 2) for t in (0.0, 0.2, 0.3, 0.4, 1.0)]
        [1.0, 1.0, 0.3, 0.2, 0.2]
    """
    span = min(max((done - spec.start) / (spec.end - spec.start), 0.0), 1.0)
    return spec.share + (1 - spec.share) * (1 - span) ** 3


class Gates:
    """A gate on every head and neuron, and how much each has mattered of late.

    Args:
        layout: The model; it is trained with gates, and pruned by their plan in the end.
        spec: How gates close.
    """

    def __init__(self, layout: Layout, spec: GradualSpec) -> None:
        self._layout, self.spec = layout, spec
        shape = layout.shape
        self._widths = [shape.head_width] * shape.n_layers + [1] * shape.n_layers
        units = [*shape.n_heads, *shape.ffn_widths]
        features = [n * width for n, width in zip(units, self._widths, strict=True)]
        self._gates = [torch.ones(n, requires_grad=True) for n in features]
        self._importance = [torch.zeros(n, dtype=torch.float64) for n in features]
        self._recorded = [torch.zeros(n, dtype=torch.float64) for n in features]
        self._n_heard = 0
        self.plan = Plan.full(shape)
        self._settled = False

    @property
    def share(self) -> float:
        """What the plan leaves of the encoder's cost."""
        cost = self.spec.cost
        return cost.total(self.plan.student_shape) / cost.total(self.plan.shape)

    @property
    def unit(self) -> str:
        """What the cost is counted in."""
        return self.spec.cost.unit

    def __deepcopy__(self, memo: dict[int, Any]) -> Gates:
        """One set of gates for every copy of the student: FSDP trains a copy of its module."""
        return self

    @contextmanager
    def standing(self, layout: Layout) -> Iterator[None]:
        """Within the block, what passes a gate of `layout`'s model is multiplied by it."""
        n = layout.shape.n_layers
        with gated(layout, self._gates[:n], self._gates[n:]):
            yield

    def observe_loss(self, loss: Tensor) -> None:
        """Take a batch's loss, of this process, into account; nothing else is differentiated."""
        if self._settled:
            return
        gradients = torch.autograd.grad(loss, self._gates, retain_graph=True, allow_unused=True)
        for recorded, gradient in zip(self._recorded, gradients, strict=True):
            if gradient is not None:
                recorded += gradient.detach().to(recorded)
        self._n_heard += 1

    def update(self) -> None:
        """Move the importance by what was recorded since the last time, by all processes."""
        if not self._n_heard:
            return
        means = torch.cat(self._recorded) / self._n_heard
        sizes = _averaged(means, self._layout.model.device).abs()
        parts = sizes.split([len(recorded) for recorded in self._recorded])
        for importance, size in zip(self._importance, parts, strict=True):
            importance.mul_(self.spec.smoothing).add_((1 - self.spec.smoothing) * size)
        for recorded in self._recorded:
            recorded.zero_()
        self._n_heard = 0

    def close(self, done: float) -> None:
        """Set the gates to what may be left when a share `done` of the training is over."""
        if done <= self.spec.start or self._settled:
            return
        self._settled = done >= self.spec.end
        shape = self._layout.shape
        prices = self.spec.cost.prices(shape)
        budget = scheduled_share(self.spec, done) * prices.total(shape)
        self.plan = plan_by_scores(
            self.scores(), shape, prices, budget, round_to=self.spec.round_to
        )
        for layer in self.plan.layers:
            kept = (layer.heads, layer.neurons)
            places = (layer.source, shape.n_layers + layer.source)
            for place, units in zip(places, kept, strict=True):
                gate = self._gates[place].detach().view(-1, self._widths[place])
                gate.zero_()
                gate[list(units)] = 1.0

    def state(self) -> dict[str, Any]:
        """All that a killed training needs to go on."""
        return {
            "gates": [gate.detach().clone() for gate in self._gates],
            "importance": list(self._importance),
            "plan": self.plan.to_json(),
            "settled": self._settled,
        }

    def restore_(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        for gate, value in zip(self._gates, state["gates"], strict=True):
            gate.detach().copy_(value)
        for importance, value in zip(self._importance, state["importance"], strict=True):
            importance.copy_(value)
        self.plan, self._settled = Plan.from_json(state["plan"]), bool(state["settled"])

    def scores(self) -> Scores:
        """What heads and neurons have mattered of late, heads regularised."""
        shape, n = self._layout.shape, self._layout.shape.n_layers
        share = shape.head_weights / (2 * shape.hidden_size * shape.head_width)
        heads = [
            self._regular(importance.view(-1, shape.head_width).sum(1) * share, gate.detach())
            for importance, gate in zip(self._importance[:n], self._gates[:n], strict=True)
        ]
        neurons = tuple(importance.numpy() for importance in self._importance[n:])
        return Scores(kind="grain", heads=tuple(heads), neurons=neurons)

    def _regular(self, importance: Tensor, gate: Tensor) -> NDArray[np.float64]:
        if not len(importance):
            return np.zeros(0)
        left = max(float(gate.mean()), 1 / len(importance))
        return np.asarray(importance * math.tanh(left / self.spec.regularisation), np.float64)


class Closing(TrainerCallback):
    """Closes gates as a training goes on, and keeps their state beside its checkpoints.

    Args:
        gates: Gates of the student.
        told: Given a line if the training is too short for it.
    """

    def __init__(self, gates: Gates, told: Callable[[str], None] = lambda _: None) -> None:
        self._gates, self._told = gates, told

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Set the gates for the next step."""
        self._gates.update()
        self._gates.close(state.global_step / state.max_steps)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the gates into the checkpoint."""
        folder = f"{args.output_dir}/checkpoint-{state.global_step}"
        if state.is_world_process_zero:
            torch.save(self._gates.state(), f"{folder}/gates.pt")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Go on from the gates of the checkpoint that training goes on from."""
        closing = round((self._gates.spec.end - self._gates.spec.start) * state.max_steps)
        if closing < _FEW and state.is_world_process_zero:
            self._told(
                f"gates close within {closing} updates, and fewer than {_FEW} are too few for a "
                "student to follow: train longer, or prune first and distil then"
            )
        if state.global_step:
            path = f"{args.output_dir}/checkpoint-{state.global_step}/gates.pt"
            self._gates.restore_(torch.load(path, weights_only=True))


def _averaged(values: Tensor, device: torch.device) -> Tensor:
    """The mean over the processes that train together, so that their gates agree."""
    if not torch.distributed.is_initialized():
        return values
    there = values.float().to(device)
    torch.distributed.all_reduce(there)
    return (there / torch.distributed.get_world_size()).to(values)
