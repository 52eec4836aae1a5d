"""How to prune: one record for every score, layout and schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compress.errors import SpecError
from compress.model.pooling import Pooling
from compress.plan.plan import UNITS
from compress.saliency.scorers import GradientScore, ScoreName
from compress.search.depth import DepthStrategy
from compress.search.options import SearchUnit
from compress.validation import above, at_least, share, validate

__all__ = ["MethodName", "PlanLayout", "PruneSpec"]

MethodName = Literal["obs", "kprune", ScoreName]
PlanLayout = Literal["free", "uniform"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneSpec:
    """How to prune.

    Attributes:
        score: The saliency. `obs`: structured OBS (ZipLM, Kurtic et al. 2023), which knows that
            the remaining units take over what they can. `kprune`: K-prune (Park et al. 2024), which
            prunes layer by layer from the bottom up and scores again after each. The others give
            each unit one value; a `GradientScore` sets their details.
        units: What may be removed. Without `sublayers` every layer keeps a head and some neurons;
            `layers` (with `obs` alone) allows to drop whole layers. Default: heads, neurons and
            sublayers; with `kprune` no sublayers, since its loss increases are sums over single
            units, which say too little about a whole sublayer.
        layout: `free`, or `uniform` for the same heads and FFN width in every layer. Plain
            `from_pretrained` loads a uniform student where the family's config names the head width
            (`Architecture.head_keys`), and elsewhere if no heads may be removed.
        round_to: FFN widths are multiples of it.
        drop: Layers to drop first, before any head or neuron.
        strategy: Which layers to drop.
        steps: Steps from the present cost to a budget, with equal ratios between them; units are
            scored again before each. By default with `obs` as many as are needed for none to remove
            much more than a quarter of what is left, with `kprune` one, with other scores six.
            A budget within a tenth of the present cost is one step, without trials.
        repair: Refit the output projections after each step.
        trials: Changes of error weights that the last step to a budget tries (SPDY, Frantar and
            Alistarh 2022). By default 8 with `obs` in memory, else 0.
        judged: Tokens that a trial is fitted on, and as many others that it is judged on.
        tokens: Tokens that scores, and repairs before the last step, look at. By default with
            `obs` and `kprune` a third of all and at least 30,000, with other scores all. The repair
            at a budget looks at all.
        held_out: Share of the batches that no fit sees, at least one batch; students' errors are
            measured on them. 0 holds nothing out, and no error is measured.
        damping: Damping of covariances and of the repair, relative to the diagonal's mean.
        temperature: Softmax temperature of the labels that are drawn for the curvature; a
            `GradientScore` has its own, and its own seed.
        pooling: Pooling of an embedding model: pooled vectors are then compared.
        seed: Seed of everything that is drawn.
    """

    score: MethodName | GradientScore = "obs"
    units: tuple[SearchUnit, ...] | None = None
    layout: PlanLayout = "free"
    round_to: int = 16
    drop: int = 0
    strategy: DepthStrategy = "top"
    steps: int | None = None
    repair: bool = True
    trials: int | None = None
    judged: int = 8_000
    tokens: int | None = None
    held_out: float = 1 / 16
    damping: float = 0.001
    temperature: float = 2.0
    pooling: Pooling | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        validate(
            self,
            round_to=at_least(1),
            drop=at_least(0),
            steps=at_least(1),
            trials=at_least(0),
            judged=at_least(1),
            tokens=at_least(1),
            held_out=share(zero=True, one=False),
            damping=above(0),
            temperature=above(0),
        )
        if "layers" in self.removable and (self.score != "obs" or self.layout == "uniform"):
            raise SpecError(
                "PruneSpec.units: 'layers' needs score 'obs' and layout 'free', found "
                f"{self.score!r} and {self.layout!r}; use `drop` to drop layers"
            )
        if self.layout == "uniform" and self.score == "kprune":
            raise SpecError(
                "PruneSpec.layout: 'uniform' needs a score that plans all layers at once, found "
                "'kprune'; use another score"
            )
        if self.trials and (self.score == "kprune" or self.layout == "uniform"):
            raise SpecError(
                "PruneSpec.trials: trials change how layers compare, which score 'kprune' and "
                f"layout 'uniform' do not ask, found {self.trials}; leave it out"
            )

    @property
    def removable(self) -> tuple[SearchUnit, ...]:
        """`units`, or their default."""
        if self.units is not None:
            return self.units
        return UNITS if self.score == "kprune" else (*UNITS, "sublayers")

    @property
    def n_trials(self) -> int:
        """`trials`, or its default."""
        if self.trials is not None:
            return self.trials
        return 8 if self.score == "obs" and self.layout == "free" else 0
