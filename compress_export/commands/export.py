"""`export`: a checkpoint to ONNX, each variant checked against torch."""

from __future__ import annotations

import json
from pathlib import Path

from compress.binding import bind
from compress.checkpoint import load
from compress.folder import writing
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.loading import load_tokenizer
from export.bundle import export_bundle
from export.precision import VARIANTS, variant


def run(model: str, out: Path, names: list[str], *, as_json: bool) -> None:
    """Write a bundle of the variants `names` to `out`."""
    wanted = {variant(name).name for name in names}
    loaded, tokenizer = load(model), load_tokenizer(model)
    facts: dict[str, object] = {}
    with writing(out, "bundle", exported=facts) as folder, progress() as report:
        chosen = [v for v in VARIANTS if v.name in wanted]
        exported = export_bundle(loaded, tokenizer, chosen, folder / "onnx", report)
        facts |= {e.variant: e.to_dict() for e in exported}
    if as_json:
        console.print_json(json.dumps(facts))
        return
    shape = bind(loaded).shape
    heads = ", ".join(str(shape.n_heads[i] * shape.queries or "–") for i in shape.applied)
    rows = [
        [
            e.variant,
            f"{e.size_bytes / 2**20:.1f} MiB",
            ", ".join(f"{n} {op}" for op, n in e.fusion.fused.items()) or "none",
            heads if e.fusion.num_heads else "–",
            f"{max(p.max_abs for p in e.parity):.1e}",
        ]
        for e in exported
    ]
    header = ["variant", "size", "fused nodes", "heads", "max difference"]
    table(f"exported to {out}", header, rows)
