"""`inspect`: a picture of a model's layers, and who will load a student of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from compress.checkpoint.checkpoint import load
from compress.checkpoint.stored_plan import stored_plan
from compress.model.binding import bind
from compress.model.layout import Layout
from compress.plan.cost import CostModel
from compress.plan.plan import EncoderShape, Plan
from compress.plan.stock_config import stock_attributes
from compress_export.console import out, table
from compress_export.facts import model_facts
from compress_export.support import Loader, loaders

_BAR = 8


def run(model: str, sequence: int, as_json: bool) -> None:
    """Print what `model` is made of."""
    loaded = load(model)
    layout, plan = bind(loaded), stored_plan(loaded.config)
    facts, takers = model_facts(loaded, sequence), loaders(layout.shape.model_type)
    layers = _layers(layout, plan or Plan.full(layout.shape), sequence)
    plain = plan is None or stock_attributes(layout.architecture, plan) is not None
    if as_json:
        told = {
            "shape": asdict(layout.shape),
            "sequence": sequence,
            "layers": layers,
            "pruned": plan is not None,
            "stock_shaped": plain,
            "loaders": [asdict(taker) for taker in takers],
        }
        out.print_json(json.dumps({**told, **facts}))
        return
    _print_layers(f"{model}: {type(loaded).__name__}{', pruned' if plan else ''}", layers)
    _print_dropped(plan, layout.shape)
    out.print(_sentence(layout.shape))
    out.print(
        f"{facts['parameters']:,} parameters, {facts['encoder_parameters']:,} of them in the "
        f"encoder's layers; {facts['encoder_macs']:,} encoder MACs for {sequence} tokens"
    )
    _print_loaders(takers)
    if plan:
        out.print(_who_loads(plain))


def _layers(layout: Layout, plan: Plan, sequence: int) -> list[dict[str, Any]]:
    """What each layer is made of, in the order of the model."""
    shape, cost = layout.shape, CostModel(unit="macs", sequence=sequence)
    layers = []
    for i, kept in enumerate(plan.layers):
        heads, width = shape.n_heads[i], shape.ffn_widths[i]
        layers.append(
            {
                "layer": kept.source,
                "uses": shape.uses[i] if shape.groups else None,
                "kind": shape.kinds[i].removesuffix("_attention") if shape.kinds else None,
                "heads": heads,
                "n_heads": plan.shape.n_heads[kept.source],
                "neurons": width,
                "ffn_width": plan.shape.ffn_widths[kept.source],
                "parameters": sum(p.numel() for p in layout.layers[i].module.parameters()),
                "macs": heads * cost.head(shape, i) + width * cost.neuron(shape, i),
            }
        )
    return layers


def _print_layers(title: str, layers: list[dict[str, Any]]) -> None:
    extra = [name for name in ("uses", "kind") if layers[0][name] is not None]
    header = ["layer", *extra, "heads", "FFN neurons", "params", "MACs"]
    rows = [
        [
            str(layer["layer"]),
            *(str(layer[name]) for name in extra),
            _bar(layer["heads"], layer["n_heads"]),
            _bar(layer["neurons"], layer["ffn_width"]),
            _short(layer["parameters"]),
            _short(layer["macs"]),
        ]
        for layer in layers
    ]
    table(title, header, rows, left=range(len(header) - 2))


def _bar(kept: int, of: int) -> str:
    full = max(round(_BAR * kept / of), 1 if kept else 0) if of else 0
    return f"{'█' * full}{'░' * (_BAR - full)} {kept}/{of}"


def _short(count: int) -> str:
    """A count with three digits: 1.77 M."""
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return str(count)


def _print_dropped(plan: Plan | None, shape: EncoderShape) -> None:
    if plan is None or plan.shape.depth == shape.depth:
        return
    what = "uses of the shared layers" if shape.groups else "layers"
    out.print(f"{plan.shape.depth - shape.depth} of {plan.shape.depth} {what} dropped")


def _sentence(shape: EncoderShape) -> str:
    size = f"hidden size {shape.hidden_size}, head width {shape.head_width}"
    if shape.queries_per_kv_head > 1:
        size += f"; a head is a key with its {shape.queries_per_kv_head} queries"
    if not shape.groups:
        pinned = ", but for layer 0, which has to stay" if shape.first_pinned else ""
        return f"{size}; heads, neurons and layers can be pruned one by one{pinned}"
    return (
        f"{size}; {shape.groups} group(s) of shared layers used {shape.depth} times: a head or "
        "neuron goes from every use at once, scores are summed over the uses, and dropping layers "
        "means fewer uses"
    )


def _print_loaders(takers: tuple[Loader, ...]) -> None:
    header = ["loader", "one FFN width", "one head count", "any"]
    rows = [
        [
            taker.name,
            *(
                "yes" if x else "no"
                for x in (taker.one_width, taker.one_head_count, taker.any_plan)
            ),
        ]
        for taker in takers
    ]
    table("", header, rows)


def _who_loads(plain: bool) -> str:
    if plain:
        return "this student loads with plain from_pretrained"
    return (
        "this student needs trust_remote_code, compress.load or ONNX; `compress-export expand` "
        "writes it in stock shapes"
    )
