"""What a student is to learn, as data: which signals, how much each weighs, from which layer."""

from __future__ import annotations

from dataclasses import dataclass, fields

from compress.distillation.layer_map import LayerMap
from compress.errors import SpecError
from compress.validation import above, at_least, validate

__all__ = ["SIGNALS", "Objective"]

SIGNALS = ("labels", "logits", "hidden", "embeddings", "attention", "relations")


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """A weighted sum of losses, each a mean over the batch, see `compress.distillation.losses`.

    Attributes:
        labels: Weight of the given labels' own loss.
        logits: Weight of the teacher's logits: T² KL, or the squared error of a regression.
        hidden: Weight of hidden states, a mean over the pairs of layers.
        embeddings: Weight of the embeddings' output.
        attention: Weight of attention scores before the softmax, without what positions add
            (rotary and relative positions, biases); heads are paired by the student's plan.
        relations: Weight of query, key and value relations.
        temperature: T.
        relation_heads: Relation heads; by default the teacher's own number, or the next below it
            that divides both widths.
        layers: Pairs of layers for hidden states, attention and relations. `nearest` matches four
            of the teacher's layers, evenly spaced, with whichever of the student's is nearest in
            the batch, in order (CoFi, Xia et al. 2022, section 3.2); it goes with hidden states.
        top: The teacher's layer that the student's last learns from under `uniform`,
            `last` and `nearest`.
    """

    labels: float = 0.0
    logits: float = 1.0
    hidden: float = 10.0
    embeddings: float = 0.0
    attention: float = 0.0
    relations: float = 0.0
    temperature: float = 2.0
    relation_heads: int | None = None
    layers: LayerMap = "source"
    top: int | None = None

    def __post_init__(self) -> None:
        weights = dict.fromkeys(SIGNALS, at_least(0))
        validate(self, **weights, temperature=above(0), relation_heads=at_least(1), top=at_least(1))
        if not any(getattr(self, name) for name in SIGNALS):
            raise SpecError("Objective: all weights are 0, and one must be above; raise logits")
        if self.layers == "nearest" and (self.attention or self.relations):
            raise SpecError(
                "Objective.layers: 'nearest' goes with hidden states, and attention or relations "
                "weigh something; use 'source' or 'uniform'"
            )

    @property
    def inside(self) -> bool:
        """Whether layers are compared, and so have to be paired."""
        return bool(self.hidden or self.attention or self.relations)

    @property
    def taught(self) -> bool:
        """Whether a teacher is needed at all."""
        return any(getattr(self, f.name) for f in fields(self) if f.name in SIGNALS[1:])
