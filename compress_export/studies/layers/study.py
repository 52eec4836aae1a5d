"""Sajjad, Dalvi, Durrani and Nakov 2020 (arXiv 2004.03844) on one's own model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.report.findings import Findings
from compress.checkpoint.checkpoint import load
from compress.errors import RecipeError
from compress.model.binding import bind
from compress.plan.plan import EncoderShape
from compress.search.depth import DEPTH_STRATEGIES, DepthStrategy
from compress_export.studies.fine_tune import FineTune
from compress_export.studies.grid import Grid
from compress_export.studies.layers.cells import Depths, Dropped, Moment, Signals
from compress_export.studies.layers.findings import layer_findings
from compress_export.studies.question import Question

__all__ = ["LayerGrid", "study_layers"]

Wholes: TypeAlias = dict[tuple[str, int], str]
"""Where the whole model of a task and seed is."""

Way: TypeAlias = tuple[DepthStrategy, int, Moment]

_QUICK: tuple[DepthStrategy, ...] = ("top", "bottom", "symmetric", "contribution")


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerGrid:
    """Which ways to drop layers.

    Attributes:
        drops: How many; a third, half and two thirds of them if left out.
        strategies: Which; all if left out.
        distil: Also students that learn from the whole model.
    """

    drops: tuple[int, ...] = ()
    strategies: tuple[str, ...] = ()
    distil: bool = False

    def __post_init__(self) -> None:
        for name in self.strategies:
            if name not in DEPTH_STRATEGIES:
                raise RecipeError(
                    f"--strategy must be among {', '.join(DEPTH_STRATEGIES)}, found {name!r}; "
                    "correct it"
                )


def study_layers(question: Question, wanted: LayerGrid, grid: Grid) -> Findings:
    """Fine-tune the whole model, look at its layers, then drop them in every way."""
    shape = bind(load(question.model)).shape
    drops = _drops(wanted, shape, question.quick)
    ways = list(_ways(wanted, drops, shape, question.quick))
    _check_ways(wanted, ways, drops, shape)
    wholes = {
        (task, seed): str(question.out / "work" / task / f"whole-{seed}")
        for task in question.tasks
        for seed in question.seeds
    }
    whole = grid("fine-tuning", _whole(question, wholes))
    signals = [] if shape.groups else grid("looking at layers", _signals(question, wholes))
    rows = grid("dropping layers", _dropped(question, wholes, ways))
    timed = Depths(
        source=question.model,
        lessons=question.lessons(question.tasks[0]),
        drops=(0, *drops),
        sequence=min(64, question.max_length),
    )
    return layer_findings(question, whole, signals, rows, grid("timing", [timed]))


def _whole(question: Question, wholes: Wholes) -> list[FineTune]:
    return [
        FineTune(source=question.model, lessons=question.lessons(task), seed=seed, out=out)
        for (task, seed), out in wholes.items()
    ]


def _signals(question: Question, wholes: Wholes) -> list[Signals]:
    seed = question.seeds[0]
    return [Signals(whole=wholes[t, seed], lessons=question.lessons(t)) for t in question.tasks]


def _dropped(question: Question, wholes: Wholes, ways: Sequence[Way]) -> list[Dropped]:
    return [
        Dropped(
            source=question.model,
            whole=whole,
            lessons=question.lessons(task),
            strategy=strategy,
            n_drop=n_drop,
            moment=moment,
            seed=seed,
            out=str(question.out / "work" / task / f"{moment}-{strategy}-{n_drop}-{seed}"),
        )
        for (task, seed), whole in wholes.items()
        for strategy, n_drop, moment in ways
    ]


def _drops(wanted: LayerGrid, shape: EncoderShape, quick: bool) -> tuple[int, ...]:
    """How many layers to drop.

    Raises:
        RecipeError: One is out of range.
    """
    depth, least = shape.depth, shape.groups or 1
    shares = (1 / 3, 1 / 2) if quick else (1 / 3, 1 / 2, 2 / 3)
    usual = sorted({max(1, round(share * depth)) for share in shares})
    drops = wanted.drops or tuple(n for n in usual if n <= depth - least)
    for n_drop in drops:
        if not 0 < n_drop <= depth - least:
            raise RecipeError(
                f"--drop must be 1 to {depth - least}, found {n_drop}; the model has {depth} layers"
            )
    return tuple(sorted(set(drops)))


def _ways(
    wanted: LayerGrid, drops: Sequence[int], shape: EncoderShape, quick: bool
) -> Iterator[Way]:
    """Every strategy and number before fine-tuning; after it too, with --quick `top` alone."""
    named = tuple(name for name in DEPTH_STRATEGIES if name in wanted.strategies)
    strategies = named or (_QUICK if quick else DEPTH_STRATEGIES)
    if shape.groups:
        strategies = ("top",)  # a shared layer is used less often, whatever the strategy
    for n_drop in drops:
        for strategy in strategies:
            if not _possible(strategy, n_drop, shape):
                continue
            if strategy != "leave-one-out":  # a new head gives nothing yet that could be harmed
                yield strategy, n_drop, "before"
            if not quick or strategy in ("top", "leave-one-out"):
                yield strategy, n_drop, "after"
            if wanted.distil:
                yield strategy, n_drop, "distilled"


def _check_ways(
    wanted: LayerGrid, ways: Sequence[Way], drops: Sequence[int], shape: EncoderShape
) -> None:
    """Refuse strategies that were asked for and can drop none of these numbers.

    Raises:
        RecipeError: Names them.
    """
    able = {strategy for strategy, _, _ in ways}
    for name in wanted.strategies:
        if name not in able:
            why = "layers are shared" if shape.groups else f"the model has {shape.depth} layers"
            raise RecipeError(
                f"--strategy {name} must be able to drop {', '.join(map(str, drops))} layers, "
                f"found that it cannot: {why}; choose another, or fewer (--drop)"
            )


def _possible(strategy: DepthStrategy, n_drop: int, shape: EncoderShape) -> bool:
    """Whether a strategy can drop so many: every other layer is half of them at most."""
    depth = shape.depth - shape.first_pinned
    if strategy not in ("alternate", "alternate-odd"):
        return True
    return n_drop <= (depth + (strategy == "alternate")) // 2
