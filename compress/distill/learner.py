"""A student with what it has to learn: a module whose `forward` gives the loss of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.distill.gradual import Gates
from compress.distill.layer_map import layer_pairs
from compress.distill.losses import (
    attention_error,
    label_divergence,
    label_error,
    logit_divergence,
    logit_error,
    relation_divergence,
    scaled_products,
)
from compress.distill.objective import Objective
from compress.distill.signals import PROJECTIONS, Signals, capture
from compress.distill.teacher_outputs import TeacherOutputs, TeacherSource
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
        objective: What counts.
        teaching: Where the teacher's signals come from; none where only labels count.
        plan: How the student came from this teacher; none if it did not.
        gates: On the student's heads and neurons, where it is pruned while it learns.

    Raises:
        RecipeError: Student and teacher do not go together under the objective.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        objective: Objective,
        teaching: TeacherSource | None = None,
        plan: Plan | None = None,
        gates: Gates | None = None,
    ) -> None:
        super().__init__()
        self._gates = gates
        self.student, self.objective = student, objective
        self._layout, self._teaching, self._plan = bind(student), teaching, plan
        self._check_head()
        self._pairs: tuple[_Pair, ...] = ()
        if teaching is None:
            if objective.taught:
                raise RecipeError("the objective needs a teacher, found none; weigh labels alone")
            return
        self._check_outputs(teaching)
        if objective.inside:
            self._pairs = layer_pairs(
                objective.layers,
                self._n_layers,
                teaching.n_layers,
                None if plan is None else _sources(plan),
                objective.top,
            )
        if objective.attention and self._layout.shape.queries_per_kv_head > 1:
            raise RecipeError(
                "`attention` pairs heads that have a key each, found shared keys; use `relations`"
            )
        self._widen(teaching)

    def forward(self, **batch: Tensor) -> dict[str, Any]:
        """Loss and logits of a batch; while it trains, with the parts by name.

        Args:
            **batch: Inputs, `labels` where there are any, and a stored teacher's `teacher_…`.
        """
        labels = batch.pop("labels", None)
        stored = {name: batch.pop(name) for name in list(batch) if name.startswith("teacher_")}
        heard = [here for here, _ in self._pairs] if self._projects else []
        with nullcontext() if self._gates is None else self._gates.standing(self._layout):
            mine = capture(self._layout, batch, layers=heard)
        if not self.training:
            loss = mine.logits.sum() * 0 if labels is None else self._labels(mine, labels)
            return {"loss": loss, "logits": mine.logits}
        lesson = None
        if self._teaching is not None:
            lesson = self._teaching(batch, stored, [there for _, there in self._pairs])
        parts = dict(self._parts(mine, lesson, labels, batch["attention_mask"]))
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
        self, mine: Signals, lesson: TeacherOutputs | None, labels: Tensor | None, mask: Tensor
    ) -> Iterator[tuple[str, Tensor]]:
        """The losses that count, by name, each a mean over the batch."""
        objective = self.objective
        if objective.labels:
            if labels is None:
                raise RecipeError("`labels` needs labelled examples, found none; set it 0")
            yield "labels", self._labels(mine, labels)
        if lesson is None:
            return
        if objective.logits:
            yield "logits", self._logits(mine.logits, lesson.logits).mean()
        if objective.embeddings:
            here = self._wide("embeddings", mine.hidden[0])
            yield "embeddings", lesson.error(0, here, mask).mean()
        if objective.hidden:
            yield "hidden", self._hidden(mine, lesson, mask).mean()
        if objective.attention:
            yield "attention", self._over_pairs(self._attention, mine, lesson, mask)
        if objective.relations:
            yield "relations", self._over_pairs(self._relations, mine, lesson, mask)

    def _labels(self, mine: Signals, labels: Tensor) -> Tensor:
        return label_error(mine.logits, labels).mean()

    def _logits(self, here: Tensor, there: Tensor) -> Tensor:
        if likelihood_of(self.student) == "bernoulli":
            return label_divergence(here, there, self.objective.temperature)
        if here.shape[-1] == 1:
            return logit_error(here, there)
        return logit_divergence(here, there, self.objective.temperature)

    def _hidden(self, mine: Signals, lesson: TeacherOutputs, mask: Tensor) -> Tensor:
        wide = [self._wide("hidden", state) for state in mine.hidden]
        pairs = self._pairs
        if self.objective.layers == "nearest":
            pairs = _nearest(wide, lesson, mask, [there for _, there in pairs])
        return torch.stack([lesson.error(there, wide[here], mask) for here, there in pairs]).mean(0)

    def _over_pairs(
        self,
        error: Callable[[Signals, Signals, _Pair, Tensor], Tensor],
        mine: Signals,
        lesson: TeacherOutputs,
        mask: Tensor,
    ) -> Tensor:
        theirs = lesson.signals
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
        assert self._teaching is not None  # else nothing is compared
        return self._teaching.head_width

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

    def _check_outputs(self, teaching: TeacherSource) -> None:
        mine = n_labels_of(self.student)
        if self.objective.logits and mine != teaching.n_labels:
            raise RecipeError(
                f"student and teacher must have as many outputs, found {mine} and "
                f"{teaching.n_labels}; choose a student of the teacher's task"
            )
        kinds = likelihood_of(self.student), teaching.likelihood
        if self.objective.logits and kinds[0] != kinds[1]:
            raise RecipeError(
                f"student and teacher must read their logits alike, found {kinds[0]} and "
                f"{kinds[1]}; set problem_type in the student's config.json as in the teacher's"
            )

    def _widen(self, teaching: TeacherSource) -> None:
        """Learned projections, where the student's hidden states are of another width."""
        mine = self._layout.shape.hidden_size
        self.projections = nn.ModuleDict()
        if mine == teaching.hidden_size:
            return
        for name in ("hidden", "embeddings"):
            if getattr(self.objective, name):
                self.projections[name] = nn.Linear(mine, teaching.hidden_size)

    def _wide(self, name: str, state: Tensor) -> Tensor:
        found: Tensor = self.projections[name](state) if name in self.projections else state
        return found


def _sources(plan: Plan) -> list[int] | None:
    """Where each of the student's layers came from; unknown where shared layers are used less."""
    if plan.shape.groups:
        return list(range(plan.depth)) if plan.depth == plan.shape.depth else None
    return [layer.source for layer in plan.layers]


def _nearest(
    states: Sequence[Tensor], lesson: TeacherOutputs, mask: Tensor, target_layers: Sequence[int]
) -> tuple[_Pair, ...]:
    """For each of the teacher's layers, from the top, the nearest one no higher than the last."""
    found: list[_Pair] = []
    highest = len(states) - 1
    for aim in reversed(target_layers):
        with torch.no_grad():
            errors = [
                float(lesson.error(aim, states[i], mask).mean()) for i in range(1, highest + 1)
            ]
        highest = 1 + int(min(range(len(errors)), key=errors.__getitem__))
        found.append((highest, aim))
    return tuple(reversed(found))
