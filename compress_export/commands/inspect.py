"""`inspect`: a picture of a model's layers, and who will load a student of it."""

from __future__ import annotations

import json
from dataclasses import asdict

from compress.binding import bind
from compress.checkpoint import load, stored_plan
from compress.cost import CostModel
from compress.layout import Layout
from compress.plan import EncoderShape
from compress.stock import stock_attributes
from compress_export.console import out, table
from compress_export.facts import model_facts
from compress_export.support import Loader, loaders

_BAR = 8


def run(model: str, sequence: int, as_json: bool) -> None:
    """Print what `model` is made of."""
    loaded = load(model)
    layout = bind(loaded)
    shape, facts = layout.shape, model_facts(loaded, sequence)
    plan = stored_plan(loaded.config)
    takers = loaders(shape.model_type)
    if as_json:
        told = {
            "shape": asdict(shape),
            "sequence": sequence,
            "loaders": [asdict(t) for t in takers],
        }
        out.print_json(json.dumps({**told, **facts}))
        return
    whole = plan.shape if plan else shape
    sources = [layer.source for layer in plan.layers] if plan else range(shape.n_layers)
    extra = ["uses"] if shape.groups else ["kind"] if shape.kinds else []
    header = ["layer", *extra, "heads", "FFN neurons", "params", "MACs"]
    title = f"{model}: {type(loaded).__name__}" + (", pruned" if plan else "")
    rows = [_row(layout, whole, i, source, sequence) for i, source in enumerate(sources)]
    table(title, header, rows, left=range(len(header) - 2))
    _print_dropped(whole, shape)
    out.print(_sentence(shape))
    out.print(
        f"{facts['parameters']:,} parameters, {facts['encoder_parameters']:,} of them in the "
        f"encoder's layers; {facts['encoder_macs']:,} encoder MACs for {sequence} tokens"
    )
    _print_loaders(takers)
    if plan:
        plain = stock_attributes(layout.architecture, plan) is not None
        out.print(
            "this student loads with plain from_pretrained"
            if plain
            else "this student needs trust_remote_code, compress.load or ONNX; "
            "`compress-export expand` writes it in stock shapes"
        )


def _row(layout: Layout, whole: EncoderShape, index: int, source: int, sequence: int) -> list[str]:
    shape, cost = layout.shape, CostModel(unit="macs", sequence=sequence)
    heads, width = shape.n_heads[index], shape.ffn_widths[index]
    macs = heads * cost.head(shape, index) + width * cost.neuron(shape, index)
    parameters = sum(p.numel() for p in layout.layers[index].module.parameters())
    extra = [str(shape.uses[index])] if shape.groups else []
    extra += [shape.kinds[index].removesuffix("_attention")] if shape.kinds else []
    return [
        str(source),
        *extra,
        _bar(heads, whole.n_heads[source]),
        _bar(width, whole.ffn_widths[source]),
        _short(parameters),
        _short(macs),
    ]


def _bar(kept: int, of: int) -> str:
    full = max(round(_BAR * kept / of), 1 if kept else 0) if of else 0
    return f"{'█' * full}{'░' * (_BAR - full)} {kept}/{of}"


def _short(count: int) -> str:
    """A count with three digits: 1.77 M."""
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return str(count)


def _print_dropped(whole: EncoderShape, shape: EncoderShape) -> None:
    dropped = whole.depth - shape.depth
    if dropped:
        what = "uses of the shared layers" if shape.groups else "layers"
        out.print(f"{dropped} of {whole.depth} {what} dropped")


def _sentence(shape: EncoderShape) -> str:
    size = f"hidden size {shape.hidden_size}, head width {shape.head_width}"
    if shape.queries > 1:
        size += f"; a head is a key with its {shape.queries} queries"
    if not shape.groups:
        pinned = ", but for layer 0, which has to stay" if shape.first_pinned else ""
        return f"{size}; heads, neurons and layers can be pruned one by one{pinned}"
    return (
        f"{size}; {shape.groups} group(s) of shared layers used {shape.depth} times: a head or "
        "neuron goes from every use at once, scores are summed over the uses, and dropping layers "
        "means fewer uses"
    )


def _print_loaders(takers: tuple[Loader, ...]) -> None:
    header = ["loader, students that it takes", "one FFN width", "one head count", "any"]
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
