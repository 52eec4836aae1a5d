"""`inspect`: a model's layers, heads, neurons, parameters and MACs."""

from __future__ import annotations

import json
from dataclasses import asdict

from compress.checkpoint import load
from compress.layout import bind
from compress.plan import EncoderShape
from compress_export.console import out, table
from compress_export.facts import model_facts


def run(model: str, sequence: int, as_json: bool) -> None:
    """Print what `model` is made of."""
    loaded = load(model)
    shape = bind(loaded).shape
    facts = model_facts(loaded, sequence)
    if as_json:
        out.print_json(json.dumps({"shape": asdict(shape), "sequence": sequence, **facts}))
        return
    rows = [
        [str(i), str(heads), str(width), str(uses)]
        for i, (heads, width, uses) in enumerate(
            zip(shape.n_heads, shape.ffn_widths, shape.uses, strict=True)
        )
    ]
    table(f"{model}: {type(loaded).__name__}", ["layer", "heads", "FFN neurons", "uses"], rows)
    out.print(_sentence(shape))
    out.print(
        f"{facts['parameters']:,} parameters, {facts['encoder_parameters']:,} of them in the "
        f"encoder's layers; {facts['encoder_macs']:,} encoder MACs for {sequence} tokens"
    )


def _sentence(shape: EncoderShape) -> str:
    size = f"hidden size {shape.hidden_size}, head width {shape.head_width}"
    if not shape.groups:
        return f"{size}; heads, neurons and layers can be pruned one by one"
    return (
        f"{size}; {shape.groups} group(s) of shared layers used {shape.depth} times: a head or "
        "neuron goes from every use at once, and dropping layers means fewer uses"
    )
