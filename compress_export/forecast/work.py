"""How much a run has to do: sizes, tokens, graphs. Counts alone; knows no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.runtimes.onnxruntime import CPU, cuda_available
from benchmarks.tasks import Split, text_lengths
from compress.model.batches import Batch, first_within, n_tokens
from compress.model.binding import bind
from compress.plan.plan import EncoderShape
from compress.plan.workload import Workload
from compress.pruner.schedule import looked_at, split_held_out
from compress.repair.targets import MOST_REMEMBERED, target_bytes
from compress.search.reachable import tokens_needed
from compress_export.context import Context
from compress_export.forecast.rates import Rates, n_padded
from compress_export.recipe import Recipe
from compress_export.stages import Step

__all__ = ["GRAPH", "Work", "work_of"]

_SAMPLE = 1024
GRAPH = 0.9
"""A pass of ONNX Runtime over one of torch in evaluation mode, token by token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What there is to do.

    Attributes:
        recipe: That asks for it.
        steps: Of a run, those that will be done.
        shape: Of the teacher.
        parameters: Of the teacher, embeddings and head included.
        outside: Of these, those outside its layers.
        calibration: Real tokens of the calibration data.
        seen, some, judged: Of these, what fits look at at a target, on its way, and on trial.
        remembers: Whether repairs keep what the teacher gave for them.
        padding: Tokens with padding over real ones, there.
        batches: Of calibration data.
        widest: Tokens of its largest batch, padding included.
        longest: Tokens of its longest example.
        training: Tokens of one pass over the training data.
        updates: Steps of that pass.
        validation: Tokens of the validation data.
        share: Of the encoder's work, what the student will take of it.
        workloads: Of the target, if it is one in time.
        graphs: Variants that are measured.
        streamed: Whether one layer is in memory at a time.
    """

    recipe: Recipe
    steps: Sequence[Step]
    shape: EncoderShape
    parameters: int
    outside: int
    calibration: int
    seen: int
    some: int
    judged: int
    remembers: bool
    padding: float
    batches: int
    widest: int
    longest: int
    training: int
    updates: int
    validation: int
    share: float
    workloads: Sequence[Workload]
    graphs: int
    streamed: bool

    @property
    def tables(self) -> bool:
        """Whether latency tables are measured, if none is kept."""
        return bool(self.workloads) and self.recipe.target.table is None

    @property
    def attention_width(self) -> int:
        """Inputs of the attention's output projection, in the widest layer."""
        return max(self.shape.n_heads) * self.shape.head_width * self.shape.queries_per_kv_head

    @property
    def ffn_width(self) -> int:
        """Inputs of the FFN's output projection, in the widest layer."""
        return max(self.shape.ffn_widths)

    @property
    def teacher_bytes(self) -> int:
        """In float32."""
        return 4 * self.parameters

    @property
    def student_bytes(self) -> int:
        """In float32."""
        inside = self.parameters - self.outside
        return round(4 * (self.outside + self.share * inside))


def work_of(
    context: Context,
    rates: Rates,
    steps: Sequence[Step],
    *,
    streamed: bool = False,
) -> Work:
    """Count what the context's recipe asks for.

    Args:
        context: Of a recipe that has been checked.
        rates: Of this machine.
        steps: That will be done.
        streamed: Whether one layer is in memory at a time.
    """
    recipe, layout, batches = context.recipe, bind(context.teacher), context.calibration()
    parameters = sum(p.numel() for p in context.teacher.parameters())
    inside = sum(p.numel() for layer in layout.layers for p in layer.module.parameters())
    real, padded = _real(batches), sum(map(n_padded, batches))
    spec = recipe.prune_spec()
    _, seen = split_held_out(batches, spec)
    most_judged = max(spec.judged, tokens_needed(layout.shape))
    learns = "recover" in steps and recipe.recover.epochs > 0
    return Work(
        recipe=recipe,
        steps=steps,
        shape=layout.shape,
        parameters=parameters,
        outside=parameters - inside,
        calibration=real,
        seen=_real(seen),
        some=_real(looked_at(seen, spec)),
        judged=_real(first_within(seen, most_judged)),
        remembers=target_bytes(layout.shape, real) <= MOST_REMEMBERED,
        padding=padded / real,
        batches=len(batches),
        widest=max(map(n_padded, batches)),
        longest=max(batch["input_ids"].shape[-1] for batch in batches),
        training=_tokens(context, "train") if learns else 0,
        updates=len(context.dataset("train")) // recipe.recover.batch_size if learns else 0,
        validation=_tokens(context, "validation") if "evaluate" in steps else 0,
        share=_share(recipe, context, rates),
        workloads=context.mix.workloads if recipe.goal() else (),
        graphs=sum(v.provider == CPU or cuda_available() for v in recipe.variants()),
        streamed=streamed,
    )


def _real(batches: Sequence[Batch]) -> int:
    return sum(map(n_tokens, batches))


def _tokens(context: Context, split: Split) -> int:
    """Tokens of one pass over the data, from a sample of the lengths."""
    dataset, cut = context.dataset(split), context.recipe.benchmark.max_length
    sample = dataset.sample(min(_SAMPLE, len(dataset)), context.recipe.seed)
    mean = float(np.mean(text_lengths(sample.texts, context.tokenizer, cut)))
    return round(mean * len(dataset))


def _share(recipe: Recipe, context: Context, rates: Rates) -> float:
    """What the student may take of the encoder's work."""
    goal = recipe.goal()
    if goal is None:
        return recipe.share()
    tokens = sum(w.batch * w.sequence * share for w, share in context.mix.shares)
    dense_ms = 1e3 * tokens * rates.forward * GRAPH
    return min(1.0, goal.budget_ms(dense_ms) / dense_ms)
