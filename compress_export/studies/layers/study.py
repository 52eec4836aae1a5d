"""Sajjad, Dalvi, Durrani and Nakov 2020 (arXiv 2004.03844) on one's own model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.report.findings import Findings
from compress.binding import bind
from compress.checkpoint import load
from compress.depth import DEPTH_STRATEGIES, DepthStrategy
from compress.errors import RecipeError
from compress_export.studies.fine_tune import FineTune
from compress_export.studies.grid import Cell, Grid, Row
from compress_export.studies.layers.cells import Depths, Dropped, Moment, Signals
from compress_export.studies.layers.findings import layer_findings
from compress_export.studies.question import Question

__all__ = ["LayerGrid", "study_layers"]

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
    drops = _drops(wanted, shape.depth, shape.groups or 1, question.quick)
    lessons = {task: question.lessons(task) for task in question.tasks}
    wholes = {
        (task, seed): str(question.out / "work" / task / f"whole-{seed}")
        for task in question.tasks
        for seed in question.seeds
    }
    whole = grid(
        "fine-tuning",
        [
            FineTune(source=question.model, lessons=lessons[t], seed=s, out=out)
            for (t, s), out in wholes.items()
        ],
    )
    signals: list[Row] = []
    if not shape.groups:
        looks = [
            Signals(whole=wholes[t, question.seeds[0]], lessons=lessons[t]) for t in question.tasks
        ]
        signals = grid("looking at layers", looks)
    cells: list[Cell] = []
    for task, seed in wholes:
        for strategy, n_drop, moment in _ways(wanted, drops, shape.groups, question.quick):
            folder = f"{moment}-{strategy}-{n_drop}-{seed}"
            cell = Dropped(
                source=question.model,
                whole=wholes[task, seed],
                lessons=lessons[task],
                strategy=strategy,
                n_drop=n_drop,
                moment=moment,
                seed=seed,
                out=str(question.out / "work" / task / folder),
            )
            cells += [cell] if _possible(cell, shape.depth) else []
    rows = grid("dropping layers", cells)
    timed = Depths(
        source=question.model,
        lessons=lessons[question.tasks[0]],
        drops=(0, *drops),
        sequence=min(64, question.max_length),
    )
    depths = grid("timing", [timed])
    return layer_findings(question, whole, signals, rows, depths)


def _drops(wanted: LayerGrid, depth: int, least: int, quick: bool) -> tuple[int, ...]:
    """How many layers to drop.

    Raises:
        RecipeError: One is out of range.
    """
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
    wanted: LayerGrid, drops: Sequence[int], groups: int, quick: bool
) -> Iterator[tuple[DepthStrategy, int, Moment]]:
    """Every strategy and number before fine-tuning; after it too, with --quick `top` alone."""
    named = tuple(name for name in DEPTH_STRATEGIES if name in wanted.strategies)
    strategies = named or (_QUICK if quick else DEPTH_STRATEGIES)
    if groups:
        strategies = ("top",)  # a shared layer is used less often, whatever the strategy
    for n_drop in drops:
        for strategy in strategies:
            yield strategy, n_drop, "before"
            if not quick or strategy == "top":
                yield strategy, n_drop, "after"
            if wanted.distil:
                yield strategy, n_drop, "distilled"


def _possible(cell: Dropped, depth: int) -> bool:
    """Whether the strategy can drop so many: every other layer is half of them at most."""
    if cell.strategy not in ("alternate", "alternate-odd"):
        return True
    return cell.n_drop <= (depth + (cell.strategy == "alternate")) // 2
