"""`families`: what is supported, one row a family."""

from __future__ import annotations

import json

from compress_export.console import out, table
from compress_export.support import MODEL_HEADS, all_support


def run(*, as_json: bool) -> None:
    """Print every family and what it supports."""
    families = all_support()
    if as_json:
        out.print_json(json.dumps([family.to_dict() for family in families]))
        return
    rows = [
        [
            family.model_type,
            family.layers,
            family.ffn,
            family.attention,
            "yes" if family.stock_heads else "no",
            "".join(head[0] if head in family.heads else "·" for head in MODEL_HEADS),
        ]
        for family in families
    ]
    header = ["family", "layers", "FFN", "fused attention", "stock", "heads"]
    table(f"{len(families)} families", header, rows, left=(0, 1, 2, 3, 4, 5))
    for family in families:
        if family.why:
            out.print(f"{family.model_type}: {family.why}")
    out.print(
        "In every one, heads, FFN neurons, sublayers and layers can be pruned.\n"
        "layers: shared by several positions (ALBERT), or mixed local and global attention.\n"
        "fused attention: the node, one a layer, each with its own head count.\n"
        "stock: plain from_pretrained takes fewer heads, the same number in each layer.\n"
        f"heads: {', '.join(f'{head[0]} {head}' for head in MODEL_HEADS)}."
    )
