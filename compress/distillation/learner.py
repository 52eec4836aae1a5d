"""A student with what it has to learn: a module whose `forward` gives the loss of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.distillation.gradual import Gates
from compress.distillation.layer_map import layer_pairs
from compress.distillation.losses import (
    attention_error,
    label_divergence,
    label_error,
    logit_divergence,
    logit_error,
    relation_divergence,
    scaled_products,
)
from compress.distillation.objective import Objective
from compress.distillation.signals import PROJECTIONS, Signals, capture
from compress.distillation.teacher_outputs import TeacherOutputs, TeacherSource
from compress.errors import RecipeError
from compress.model.binding import bind
from compress.model.task_head import head_of, likelihood_of, n_labels_of
from compress.plan.plan import Plan

__all__ = ["Learner"]

_Pair: TypeAlias = tuple[int, int]


class Learner(nn.Module):
    """A student in training.

    Args:
        student: Trained in place.
        objective: The losses and their weights.
        teacher_source: Source of the teacher's outputs; `None` if only labels count.
        plan: How the student was pruned from this teacher; `None` if it was not.
        gates: Gates on the student's heads and neurons, if it is pruned while it learns.

    Raises:
        RecipeError: Student and teacher do not go together under the objective.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        objective: Objective,
        teacher_source: TeacherSource | None = None,
        plan: Plan | None = None,
        gates: Gates | None = None,
    ) -> None:
        super().__init__()
        self._gates = gates
        self.student, self.objective = student, objective
        self._layout, self._teacher_source, self._plan = bind(student), teacher_source, plan
        self._check_head()
        self._pairs: tuple[_Pair, ...] = ()
        if teacher_source is None:
            if objective.taught:
                raise RecipeError("the objective needs a teacher, found none; weigh labels alone")
            return
        self._check_outputs(teacher_source)
        if objective.inside:
            self._pairs = layer_pairs(
                objective.layers,
                self._n_layers,
                teacher_source.n_layers,
                None if plan is None else _sources(plan),
                objective.top,
            )
        if objective.attention and self._layout.shape.queries_per_kv_head > 1:
            raise RecipeError(
                "`attention` pairs heads that have a key each, found shared keys; use `relations`"
            )
        self._widen(teacher_source)

    def forward(self, **batch: Tensor) -> dict[str, Any]:
        """Loss and logits of a batch; while it trains, with the parts by name.

        Args:
            **batch: Inputs, `labels` where there are any, and a stored teacher's `teacher_…`.
        """
        labels = batch.pop("labels", None)
        stored = {name: batch.pop(name) for name in list(batch) if name.startswith("teacher_")}
        recorded = [here for here, _ in self._pairs] if self._projects else []
        with nullcontext() if self._gates is None else self._gates.standing(self._layout):
            mine = capture(self._layout, batch, layers=recorded)
        if not self.training:
            loss = mine.logits.sum() * 0 if labels is None else self._labels(mine, labels)
            return {"loss": loss, "logits": mine.logits}
        teacher_outputs = None
        if self._teacher_source is not None:
            teacher_outputs = self._teacher_source(
                batch, stored, [there for _, there in self._pairs]
            )
        parts = dict(self._parts(mine, teacher_outputs, labels, batch["attention_mask"]))
        if self._gates is not None:
            self._gates.observe_loss(
                parts.get("logits", parts.get("labels", next(iter(parts.values()))))
            )
        loss = torch.stack([getattr(self.objective, name) * v for name, v in parts.items()]).sum()
        told = {name: value.detach() for name, value in parts.items()}
        return {"loss": loss, "parts": told, "logits": mine.logits.detach()}

    @property
    def _no_split_modules(self) -> list[str]:
        """What FSDP shards one by one."""
        return sorted({type(layer.module).__name__ for layer in self._layout.layers})

    @property
    def _n_layers(self) -> int:
        return sum(self._layout.shape.uses)

    @property
    def _projects(self) -> bool:
        return bool(self.objective.attention or self.objective.relations)

    def _parts(
        self,
        mine: Signals,
        teacher_outputs: TeacherOutputs | None,
        labels: Tensor | None,
        mask: Tensor,
    ) -> Iterator[tuple[str, Tensor]]:
        """The losses that count, by name, each a mean over the batch."""
        objective = self.objective
        if objective.labels:
            if labels is None:
                raise RecipeError("`labels` needs labelled examples, found none; set it 0")
            yield "labels", self._labels(mine, labels)
        if teacher_outputs is None:
            return
        if objective.logits:
            yield "logits", self._logits(mine.logits, teacher_outputs.logits).mean()
        if objective.embeddings:
            here = self._wide("embeddings", mine.hidden[0])
            yield "embeddings", teacher_outputs.error(0, here, mask).mean()
        if objective.hidden:
            yield "hidden", self._hidden(mine, teacher_outputs, mask).mean()
        if objective.attention:
            yield "attention", self._over_pairs(self._attention, mine, teacher_outputs, mask)
        if objective.relations:
            yield "relations", self._over_pairs(self._relations, mine, teacher_outputs, mask)

    def _labels(self, mine: Signals, labels: Tensor) -> Tensor:
        return label_error(mine.logits, labels).mean()

    def _logits(self, here: Tensor, there: Tensor) -> Tensor:
        if likelihood_of(self.student) == "bernoulli":
            return label_divergence(here, there, self.objective.temperature)
        if here.shape[-1] == 1:
            return logit_error(here, there)
        return logit_divergence(here, there, self.objective.temperature)

    def _hidden(self, mine: Signals, teacher_outputs: TeacherOutputs, mask: Tensor) -> Tensor:
        wide = [self._wide("hidden", state) for state in mine.hidden]
        pairs = self._pairs
        if self.objective.layers == "nearest":
            pairs = _nearest(wide, teacher_outputs, mask, [there for _, there in pairs])
        return torch.stack(
            [teacher_outputs.error(there, wide[here], mask) for here, there in pairs]
        ).mean(0)

    def _over_pairs(
        self,
        error: Callable[[Signals, Signals, _Pair, Tensor], Tensor],
        mine: Signals,
        teacher_outputs: TeacherOutputs,
        mask: Tensor,
    ) -> Tensor:
        theirs = teacher_outputs.signals
        found = [
            error(mine, theirs, pair, mask) for pair in self._pairs if self._captured(mine, pair)
        ]
        return torch.stack(found).mean() if found else mine.logits.sum() * 0

    def _captured(self, mine: Signals, pair: _Pair) -> bool:
        """Whether the student's layer of the pair has heads left."""
        return ("queries", pair[0]) in mine.projections

    def _attention(self, mine: Signals, theirs: Signals, pair: _Pair, mask: Tensor) -> Tensor:
        here, there = pair
        n_mine = mine.projections["queries", here].shape[-1] // self._layout.shape.head_width
        n_theirs = theirs.projections["queries", there].shape[-1] // self._their_head_width
        kept = self._kept_heads(here, n_mine, n_theirs)
        scores = [
            scaled_products(signals.projections["queries", i], signals.projections["keys", i], n)
            for signals, i, n in ((mine, here, n_mine), (theirs, there, n_theirs))
        ]
        return attention_error(scores[0], scores[1][:, kept], mask)

    def _kept_heads(self, layer: int, n_mine: int, n_theirs: int) -> Sequence[int]:
        if self._plan is not None:
            return self._plan.layers[self._layout.shape.applied[layer - 1]].heads
        if n_mine != n_theirs:
            raise RecipeError(
                f"`attention` pairs heads, found {n_mine} in layer {layer} of the student "
                f"and {n_theirs} in the teacher's; use `relations`"
            )
        return range(n_mine)

    def _relations(self, mine: Signals, theirs: Signals, pair: _Pair, mask: Tensor) -> Tensor:
        found = []
        for name in PROJECTIONS:
            here, there = mine.projections[name, pair[0]], theirs.projections[name, pair[1]]
            found.append(relation_divergence(here, there, self._relation_heads(here, there), mask))
        return torch.stack(found).mean()

    @property
    def _their_head_width(self) -> int:
        assert self._teacher_source is not None  # else nothing is compared
        return self._teacher_source.head_width

    def _relation_heads(self, here: Tensor, there: Tensor) -> int:
        """As many as asked for; else the teacher's own, or as many fewer as divide both widths."""
        widths = (here.shape[-1], there.shape[-1])
        given = self.objective.relation_heads
        if given is None:
            most = there.shape[-1] // self._their_head_width
            return next(n for n in range(most, 0, -1) if not any(width % n for width in widths))
        if any(width % given for width in widths):
            raise RecipeError(
                f"`relation_heads` must divide the widths {widths[0]} and {widths[1]} of "
                f"student's and teacher's queries, found {given}; choose another, or leave it out"
            )
        return given

    def _check_head(self) -> None:
        of_sequences = head_of(self.student).suffix == "ForSequenceClassification"
        if not of_sequences and (self.objective.logits or self.objective.labels):
            raise RecipeError(
                "`logits` and `labels` go with sequence classifiers and "
                f"regressors, found {type(self.student).__name__}; fine-tune it first, which gives "
                "it a head, or set them to 0 and learn from hidden states"
            )
        if self.objective.labels and likelihood_of(self.student) == "bernoulli":
            raise RecipeError(
                "`labels` takes one class for each text, found a multi-label classifier; "
                "set it to 0 and learn from the teacher"
            )

    def _check_outputs(self, teacher_source: TeacherSource) -> None:
        mine = n_labels_of(self.student)
        if self.objective.logits and mine != teacher_source.n_labels:
            raise RecipeError(
                f"student and teacher must have as many outputs, found {mine} and "
                f"{teacher_source.n_labels}; choose a student of the teacher's task"
            )
        kinds = likelihood_of(self.student), teacher_source.likelihood
        if self.objective.logits and kinds[0] != kinds[1]:
            raise RecipeError(
                f"student and teacher must read their logits alike, found {kinds[0]} and "
                f"{kinds[1]}; set problem_type in the student's config.json as in the teacher's"
            )

    def _widen(self, teacher_source: TeacherSource) -> None:
        """Learned projections, where the student's hidden states are of another width."""
        mine = self._layout.shape.hidden_size
        self.projections = nn.ModuleDict()
        if mine == teacher_source.hidden_size:
            return
        for name in ("hidden", "embeddings"):
            if getattr(self.objective, name):
                self.projections[name] = nn.Linear(mine, teacher_source.hidden_size)

    def _wide(self, name: str, state: Tensor) -> Tensor:
        found: Tensor = self.projections[name](state) if name in self.projections else state
        return found


def _sources(plan: Plan) -> list[int] | None:
    """Where each of the student's layers came from; unknown where shared layers are used less."""
    if plan.shape.groups:
        return list(range(plan.depth)) if plan.depth == plan.shape.depth else None
    return [layer.source for layer in plan.layers]


def _nearest(
    states: Sequence[Tensor],
    teacher_outputs: TeacherOutputs,
    mask: Tensor,
    target_layers: Sequence[int],
) -> tuple[_Pair, ...]:
    """For each of the teacher's layers, from the top, the nearest one no higher than the last."""
    found: list[_Pair] = []
    highest = len(states) - 1
    for aim in reversed(target_layers):
        with torch.no_grad():
            errors = [
                float(teacher_outputs.error(aim, states[i], mask).mean())
                for i in range(1, highest + 1)
            ]
        highest = 1 + int(min(range(len(errors)), key=errors.__getitem__))
        found.append((highest, aim))
    return tuple(reversed(found))
