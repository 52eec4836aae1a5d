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
            f"{family.attention} ({family.fused})",
            "yes" if family.stock_heads else "no",
            *("✓" if head in family.heads else "–" for head in MODEL_HEADS),
        ]
        for family in families
    ]
    header = ["family", "layers", "FFN", "fused attention", "stock heads", *MODEL_HEADS]
    table(f"{len(families)} families", header, rows, left=(0, 1, 2, 3))
    out.print(
        "Heads, FFN neurons, sublayers and layers can be pruned in every one, with every model "
        "head marked ✓; the student is saved, loaded and exported.\n"
        "fused attention: the node, found by ONNX Runtime's patterns, or emitted through "
        "transformers' attention interface or by a rewrite.\n"
        "stock heads: plain from_pretrained takes fewer heads, the same number in each layer."
    )
