"""Down to a budget by structured OBS, one layer's weights at a time.

The walk of `compress.pruner.walk` without its search over error weights: the same steps, the same
sums in the same order.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compress.errors import BudgetError
from compress.model.batches import (
    Batches,
    Loss,
    Progress,
    frozen,
    n_sequences,
    n_tokens,
    silent,
)
from compress.model.binding import bind
from compress.model.hooks import Place, hooked
from compress.model.layout import SUBLAYERS, LayerLayout, Layout, Sublayer
from compress.model.outputs import Outputs
from compress.model.task_head import likelihood_of
from compress.plan.cost import Prices
from compress.plan.plan import Plan
from compress.pruner.prune import check_finite
from compress.pruner.schedule import falling_costs, held_out, looked_at
from compress.pruner.walk import FamilySpec
from compress.repair.least_squares import Stream, entering, kind_of, passed
from compress.saliency.gram import GramSum
from compress.saliency.obs import Removal
from compress.saliency.pruning_order import PruningOrder, removal_of
from compress.saliency.statistics import n_entering, observe, with_one
from compress.search.options import encoder_options
from compress.search.plan_search import Problem, plan_within
from compress.search.reachable import cheapest, check_enough, check_reachable
from compress.streamed.mapped import load_mapped, paged
from compress.streamed.prune import drop_old, open_teacher
from compress.streamed.spill import spilled
from compress.streamed.write import StudentWriter

__all__ = ["walk_streamed"]


def walk_streamed(
    source: Path,
    batches: Batches,
    prices: Prices,
    budget: float,
    spec: FamilySpec,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase | None = None,
    scratch: Path | None = None,
    progress: Progress = silent,
) -> Plan:
    """Go down from a checkpoint to another one that costs at most `budget`.

    Memory holds what `prune_streamed` says, the Fisher matrices of all outputs, and the moments of
    one layer's inputs.

    Args:
        source: A checkpoint of unshared layers, in float32.
        batches: Calibration data.
        prices: What sizes cost.
        budget: In their unit.
        spec: Of the ranking `obs`; `trials` is not looked at, and layers do not go whole.
        folder: Of the student; appears when it is complete.
        tokenizer: Saved beside the weights.
        scratch: For temporary files; by default the system's folder for them.
        progress: Told how far each step is.

    Returns:
        The plan.

    Raises:
        CheckpointError: See `prune_streamed`.
        BudgetError: The budget cannot be reached, or the spec asks for what streaming cannot do.
    """
    teacher = open_teacher(source)
    _, seen = held_out(batches)
    _check(teacher, seen or batches, prices, budget, spec)
    plan, now = Plan.full(teacher.shape), source
    steps = list(falling_costs(prices.total(teacher.shape), budget, spec))
    some = looked_at(seen, spec)
    damping = spec.damping if spec.repair else None
    writer = StudentWriter(teacher, damping, tokenizer, spec.pooling, progress)
    with tempfile.TemporaryDirectory(prefix="compress-export-", dir=scratch) as temporary:
        for number, cost in enumerate(steps or [budget], start=1):
            last = number >= len(steps)
            student = bind(load_mapped(now))
            step = _step(student, some, prices, cost, spec, Path(temporary), progress)
            plan = plan.then(step)
            target = folder if last else Path(temporary) / str(number)
            fitted = seen if last else some
            writer.write(now, step, plan, fitted, target)
            drop_old(now, Path(temporary))
            now = target
    return plan


def _check(
    teacher: Layout, batches: Batches, prices: Prices, budget: float, spec: FamilySpec
) -> None:
    """Refuse what streaming cannot do, too little data, and budgets out of reach."""
    if spec.ranking != "obs" or "layers" in spec.units:
        raise BudgetError(
            "streaming goes with the ranking obs and units heads, neurons and sublayers, found "
            f"{spec.ranking} and {', '.join(spec.units)}; change them"
        )
    shape = teacher.shape
    check_enough(shape, sum(map(n_tokens, batches)), sum(map(n_sequences, batches)))
    floor = cheapest(shape, prices, spec.units, spec.multiple)
    check_reachable(budget, floor, prices.total(shape), prices.unit, spec.units)
    with paged(teacher):
        check_finite(teacher, batches)


def _step(
    student: Layout,
    batches: Batches,
    prices: Prices,
    budget: float,
    spec: FamilySpec,
    scratch: Path,
    progress: Progress,
) -> Plan:
    """What stays of the student, by loss increases that are worked out layer by layer."""
    rank = _ranking(student, batches, spec, scratch, progress)
    options = encoder_options(
        student, rank, units=spec.units, multiple=spec.multiple, drop_loss_increases={}
    )
    problem = Problem(shape=student.shape, options=options, prices=prices, budget=budget)
    return plan_within(problem, {})


def _ranking(
    student: Layout, batches: Batches, spec: FamilySpec, scratch: Path, progress: Progress
) -> PruningOrder:
    """As `obs_order`: gradients in one pass over batches, inputs in one over layers."""
    outputs = Outputs(
        likelihood=likelihood_of(student.model), pooling=spec.pooling, temperature=spec.temperature
    )
    loss: Loss = outputs.loss(spec.seed)
    with paged(student) as resident, spilled(resident, scratch):
        statistics = observe(student, batches, loss, progress, inputs=False)
    removals: dict[tuple[int, Sublayer], Removal] = {}
    with frozen(student.model), torch.no_grad(), paged(student) as resident:
        streams = [entering(student, batch) for batch in batches]
        for layer in student.layers:
            sums = _inputs(student, layer, streams)
            with resident.held(layer.module):
                for sublayer, total in sums.items():
                    of = statistics.attention if sublayer == "attention" else statistics.ffn
                    moments = replace(of[layer.index], inputs=total.total()[0])
                    removals[layer.index, sublayer] = removal_of(
                        layer, sublayer, student, moments, statistics.sequences, spec.damping
                    )
            progress("ranking", layer.index + 1, len(student.layers))
    return lambda layer, sublayer: removals.get((layer.index, sublayer))


def _inputs(student: Layout, layer: LayerLayout, streams: list[Stream]) -> dict[Sublayer, GramSum]:
    """Moments of what enters both output projections; the streams then stand above the layer."""
    widths: dict[Sublayer, int] = {s: n_entering(layer, s, student) for s in SUBLAYERS}
    sums = {s: GramSum(n + 1, dtype=torch.float32) for s, n in widths.items() if n}
    kind = kind_of(student, layer)
    for stream in streams:
        with ExitStack() as stack:
            for sublayer, total in sums.items():
                place: Place = "heads" if sublayer == "attention" else "neurons"

                def add(features: Tensor, total: GramSum = total, stream: Stream = stream) -> None:
                    total.add_(with_one(features.detach()[stream.mask].cpu()))

                stack.enter_context(hooked(layer, place, add))
            stream.teacher = passed(student, layer, kind, stream, stream.teacher)
    return sums
