"""Stacks of equal layers, cut from a model and exported as the real student would be.

A sublayer's latency depends on what stands around it: on which norms and biases fuse into its
nodes, and on what is in the caches. So sizes are measured inside a stack of whole layers, with
embeddings and head, exported the way that students are. Knows plans and graphs, not clocks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from compress.model.binding import bind
from compress.model.layout import Layout
from compress.model.surgery import apply_
from compress.plan.plan import EncoderShape, LayerPlan, Plan
from export.exporter import export_graphs
from export.precision.variants import Variant

__all__ = ["LayerStack", "export_stacks", "stack_plan", "stack_sizes"]

MOST_LAYERS = 4


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class LayerStack:
    """Layers that are all alike: `layers` positions, each layer with `heads` and `neurons`."""

    layers: int
    heads: int
    neurons: int


def stack_sizes(shape: EncoderShape, round_to: int = 16) -> tuple[LayerStack, ...]:
    """The stacks to measure: sizes of attention beside one FFN, of FFNs beside half the heads.

    With them come the unpruned sizes, and bare layers, many and one, which tell what embeddings,
    head and norms cost.
    """
    one = shape.groups or 1
    layers = max(min(shape.depth, MOST_LAYERS), one)
    most, widest = max(shape.n_heads), max(shape.ffn_widths)
    heads, widths = _head_grid(most), _width_grid(widest, round_to)
    middle = widths[len(widths) * 2 // 3] if len(widths) > 1 else widest
    half = heads[len(heads) // 2]
    stacks = {LayerStack(layers=layers, heads=h, neurons=middle) for h in (0, *heads)}
    stacks |= {LayerStack(layers=layers, heads=half, neurons=w) for w in (0, *widths)}
    stacks.add(LayerStack(layers=layers, heads=most, neurons=widest))
    stacks |= {LayerStack(layers=n, heads=0, neurons=0) for n in (one, layers)}
    return tuple(sorted(stacks))


def stack_plan(layout: Layout, stack: LayerStack) -> Plan:
    """The plan that cuts a stack out of a model: its first layers, each one's first units."""
    shape = layout.shape
    kept = shape.n_layers if shape.groups else stack.layers
    layers = tuple(
        LayerPlan(
            source=i,
            heads=tuple(range(min(stack.heads, shape.n_heads[i]))),
            neurons=tuple(range(min(stack.neurons, shape.ffn_widths[i]))),
        )
        for i in range(kept)
    )
    return Plan(shape=shape, layers=layers, depth=stack.layers)


def export_stacks(
    model: PreTrainedModel,
    stacks: Sequence[LayerStack],
    names: tuple[str, ...],
    variants: Sequence[Variant],
    folder: Path,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> dict[str, dict[LayerStack, Path]]:
    """Write every stack in every variant; give the graphs by variant and stack."""
    layout = bind(model)
    graphs: dict[str, dict[LayerStack, Path]] = {variant.name: {} for variant in variants}
    progress("export stacks", 0, len(stacks))
    for done, stack in enumerate(stacks, start=1):
        name = f"{stack.layers}-{stack.heads}-{stack.neurons}"
        paths = [folder / variant.name / name / "model.onnx" for variant in variants]
        student = copy.deepcopy(model)
        apply_(student, stack_plan(layout, stack))
        export_graphs(student.eval(), names, variants, paths)
        for variant, path in zip(variants, paths, strict=True):
            graphs[variant.name][stack] = path
        progress("export stacks", done, len(stacks))
    return graphs


def _head_grid(most: int) -> tuple[int, ...]:
    """Up to 4 every count, then every other (or fourth) up to all."""
    step = 2 if most <= 12 else 4
    return tuple(sorted({*range(1, min(4, most) + 1), *range(4, most, step), most}))


def _width_grid(widest: int, round_to: int) -> tuple[int, ...]:
    """About a dozen multiples of `round_to`, denser where small, up to the whole width."""
    shares = (1 / 96, 1 / 48, 1 / 24, 1 / 12, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 5 / 6)
    rounded = {max(round(widest * share / round_to), 1) * round_to for share in shares}
    return tuple(sorted({w for w in rounded if w < widest} | {widest}))
