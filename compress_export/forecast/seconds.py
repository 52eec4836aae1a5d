"""How long each stage takes: what it does, counted, times how fast that is here.

The counts follow the code that they are about (`compress.pruner.pruner`,
`compress.repair.least_squares`, `compress.saliency.obs`, `benchmarks.latency`); constants are
seconds on the machine where `Rates.pace` is 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from benchmarks.profile import Effort
from compress.pruner.schedule import step_costs
from compress_export.context import LEAST_SAMPLES
from compress_export.forecast.rates import Rates
from compress_export.forecast.work import GRAPH, Work
from compress_export.stages import Step
from export.layer_stacks import MOST_LAYERS, stack_sizes
from export.precision.variants import Variant

__all__ = ["step_seconds"]

_EXPORT, _EXPORT_LAYER, _EXPORT_GB = 4.5, 0.5, 7.0
"""Seconds to trace, convert and check a graph: of any, of each layer, of each GB of weights."""
_FIRST_EXPORT = 4.0
"""Seconds that the first export imports for."""
_QUANTISE_GB = 20.0
"""Seconds to make int8 of a GB of weights."""
_PROCESS = 3.5
"""Seconds that a process of its own takes to import and open a graph."""
_PLAN_LAYER = 0.005
"""Seconds of dynamic programming, a layer."""
_COLUMN = 2.5e-4
"""Seconds to take one neuron away in structured OBS, beside the products."""
_INVERSE, _CURVATURE = 5.3, 3.0
"""Of structured OBS over a layer's neurons: w³ and hidden size × w², as many operations."""
_PASSES_OF_REPAIR = 2.35
"""Of the student: up to the attention's residual sum, up to the FFN's, and through."""
_GRADIENT = 2.6
"""Forward and backward through activations, weights frozen, over forward alone."""
_PASSES_OF_SCORE = {
    "kprune": _GRADIENT + 1,
    "fisher": _GRADIENT,
    "michel": _GRADIENT,
    "activation": 1.0,
}
"""Passes over the calibration data, by score; the others look at weights alone."""
_BACKWARD = 3.2
"""A training step over a pass of evaluation: weight gradients, dropout."""
_UPDATE = 6e-9
"""Seconds of AdamW, a parameter."""
_REST = 0.3
"""Of a layer's time, what is no product of its heads and neurons and stays when they go."""
_ATTEMPTS = 2
"""Students that are tried before one meets a goal, usually."""
_TIMED = 16.0
"""Seconds that a student is timed under one workload, some of them twice."""


def step_seconds(work: Work, rates: Rates) -> dict[Step, float]:
    """Seconds of the steps that there are, in their order."""
    found = {step: _OF_STEP[step](work, rates) for step in work.steps}
    return {step: seconds for step, seconds in found.items() if seconds}


def _prune(work: Work, rates: Rates) -> float:
    recipe = work.recipe
    pruned = _steps(work, rates)
    if recipe.goal() is None:
        return pruned
    tried = len(recipe.candidates()) * _ATTEMPTS * _attempt(work, rates)
    return pruned + tried + (_tables(work, rates) if work.tables else 0.0)


def _steps(work: Work, rates: Rates) -> float:
    """Steps of the pruner; K-prune scores and repairs anew at each layer."""
    spec = work.recipe.prune_spec()
    rounds = work.shape.n_layers if spec.score == "kprune" else 1
    shares = [1.0, *step_costs(1.0, work.share, spec)]
    seconds, taught = _dropping(work, rates), 1.0
    for before, share in itertools.pairwise(shares):
        last = share == shares[-1]
        looked = _scoring(work, rates, work.some, before) + _plan(work, rates)
        seconds += rounds * looked
        if spec.repair:
            seconds += (rounds - 1) * _repair(work, rates, work.some, share, taught)
            seconds += _repair(work, rates, work.seen if last else work.some, share, taught)
            taught = 0.0 if work.remembers else 1.0
    if not work.streamed:
        seconds += (spec.n_trials + bool(spec.n_trials)) * _trial(work, rates)
    return seconds


def _dropping(work: Work, rates: Rates) -> float:
    """Choosing the layers to drop first, where that looks at data."""
    spec = work.recipe.prune_spec()
    passes = {"contribution": 1, "leave-one-out": work.shape.n_layers}
    a_pass = work.calibration * work.padding * rates.forward
    return a_pass * passes.get(spec.strategy, 0) if spec.drop else 0.0


def _trial(work: Work, rates: Rates) -> float:
    """A plan made, carried out, repaired and judged."""
    a_pass = work.judged * work.padding * rates.forward
    repaired = _repair(work, rates, work.judged, work.share, 0.0) if work.recipe.prune.repair else 0
    return 2 * a_pass * _taken(work.share) + repaired + _plan(work, rates)


def _scoring(work: Work, rates: Rates, tokens: float, share: float) -> float:
    """Scores of a student that takes `share` of the encoder's work."""
    a_pass = tokens * work.padding * rates.forward * _taken(share)
    if work.recipe.prune.method != "obs":
        return _PASSES_OF_SCORE.get(work.recipe.prune.method, 0.0) * a_pass
    a, w, d = share * work.attention_width, share * work.ffn_width, work.shape.hidden_size
    n_heads = share * max(work.shape.n_heads)
    moments = tokens * (a**2 + w**2 + 2 * d**2) * rates.product
    orders = (a**3 * n_heads + _INVERSE * w**3 + _CURVATURE * d * w**2) * rates.factor
    orders += w * _COLUMN * rates.pace
    return _GRADIENT * a_pass + work.shape.n_layers * (moments + orders)


def _taken(share: float) -> float:
    """Of the teacher's time, what a student of that share of its work takes."""
    return _REST + (1 - _REST) * share


def _plan(work: Work, rates: Rates) -> float:
    return work.shape.n_layers * _PLAN_LAYER * rates.pace


def _repair(work: Work, rates: Rates, tokens: float, share: float, taught: float = 1.0) -> float:
    """A repair of a student of that share; `taught` passes of the teacher go with it."""
    a, w, d = share * work.attention_width, share * work.ffn_width, work.shape.hidden_size
    passes = taught + _PASSES_OF_REPAIR * _taken(share)
    products = tokens * (a**2 + w**2 + 2 * (a + w) * d) * rates.product
    solved = ((a**3 + w**3) / 3 + 2 * d * (a**2 + w**2)) * rates.factor
    a_pass = tokens * work.padding * rates.forward
    return passes * a_pass + work.shape.n_layers * (products + solved)


def _tables(work: Work, rates: Rates) -> float:
    """Latency tables, where none is kept."""
    recipe = work.recipe
    variants = tuple(dict.fromkeys([recipe.reference(), *recipe.candidates()]))
    shape = work.shape
    layers = min(shape.depth, MOST_LAYERS) / shape.depth
    size = 4 * (work.outside + layers * (work.parameters - work.outside))
    an_export = _exports(variants, work, rates, size, layers=round(layers * shape.depth))
    measured = (Effort().seconds + 10 * rates.pace) * len(work.workloads)
    return len(stack_sizes(shape)) * an_export + len(variants) * measured


def _attempt(work: Work, rates: Rates) -> float:
    """A student exported and timed, under each workload."""
    exported = _exports(work.recipe.candidates()[:1], work, rates, work.student_bytes)
    return exported + len(work.workloads) * _TIMED


def _exports(
    variants: tuple[Variant, ...],
    work: Work,
    rates: Rates,
    size: float,
    layers: int | None = None,
) -> float:
    """Graphs of a model of `size` bytes, written and held against torch."""
    depth = work.shape.depth if layers is None else layers
    traced = {v.fusions for v in variants}
    once = (_EXPORT + depth * _EXPORT_LAYER) * rates.pace + size / 1e9 * _EXPORT_GB * rates.pace
    quantised = sum(v.int8 for v in variants) * size / 1e9 * _QUANTISE_GB * rates.pace
    return len(traced) * once + quantised


def _recover(work: Work, rates: Rates) -> float:
    settings = work.recipe.recover
    passes = work.training * rates.forward * (1.0 + _BACKWARD * _taken(work.share))
    updated = work.updates / settings.accumulate * work.student_bytes / 4 * _UPDATE
    return settings.epochs * (passes + updated)


def _export(work: Work, rates: Rates) -> float:
    """The student's graphs and the teacher's, and what the first of all imports."""
    recipe = work.recipe
    student = _exports(recipe.exported(), work, rates, work.student_bytes)
    teacher = _exports((recipe.reference(),), work, rates, work.teacher_bytes)
    return _FIRST_EXPORT * rates.pace + student + teacher


def _evaluate(work: Work, rates: Rates) -> float:
    """Every graph on the validation data, and the picture of the teacher's heads."""
    answered = work.validation * rates.forward * GRAPH * (1 + work.graphs * _taken(work.share))
    pictured = min(work.batches, 16) / work.batches * work.calibration * work.padding
    return answered + pictured * _GRADIENT * rates.forward


def _bench(work: Work, rates: Rates) -> float:
    """All graphs under all workloads, and what each takes of memory in a process of its own."""
    settings, promised = work.recipe.benchmark, work.recipe.promised()
    grid = {(b, s) for b in settings.batches for s in settings.sequences}
    seconds = 0.0
    for batch, sequence in grid | {(promised.batch, promised.sequence)}:
        a_round = batch * sequence * rates.forward * GRAPH * (1 + work.graphs * _taken(work.share))
        warm = max(3 * a_round, min(8 * a_round, 3.0))
        timed = min(max(settings.seconds, LEAST_SAMPLES * a_round), settings.rounds * a_round)
        seconds += settings.openings * warm + timed
    opened = (work.teacher_bytes + work.graphs * work.student_bytes) / 1e9 * rates.pace
    return seconds + (settings.openings + 1) * opened + (1 + work.graphs) * _PROCESS * rates.pace


_OF_STEP: dict[Step, Callable[[Work, Rates], float]] = {
    "prune": _prune,
    "recover": _recover,
    "export": _export,
    "evaluate": _evaluate,
    "bench": _bench,
}
