"""`export`: a checkpoint to ONNX, each variant checked against torch."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from benchmarks.tasks import TextTask, tokenise
from compress.binding import bind
from compress.checkpoint import load
from compress.errors import RecipeError
from compress.folder import writing
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.loading import load_tokenizer
from export.bundle import export_bundle
from export.inputs import input_names
from export.int8 import Feeds
from export.precision import VARIANTS, variant


def run(model: str, out: Path, names: list[str], texts: Path | None, *, as_json: bool) -> None:
    """Write a bundle of the variants `names` to `out`, static int8 calibrated on `texts`."""
    wanted = {variant(name).name for name in names}
    loaded, tokenizer = load(model), load_tokenizer(model)
    chosen = [v for v in VARIANTS if v.name in wanted]
    if texts is None and any(v.static for v in chosen):
        raise RecipeError(
            "--variant cpu-int8-static needs --texts FILE to calibrate on, found none"
        )
    accepted = input_names(loaded, tokenizer.model_input_names)
    feeds = [] if texts is None else _feeds(texts, tokenizer, accepted)
    facts: dict[str, object] = {}
    with writing(out, "bundle", exported=facts) as folder, progress() as report:
        exported = export_bundle(loaded, tokenizer, chosen, folder / "onnx", report, feeds)
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


def _feeds(texts: Path, tokenizer: PreTrainedTokenizerBase, names: tuple[str, ...]) -> Feeds:
    """Up to 512 texts of a file as a graph's inputs."""
    sample = TextTask(texts=texts).load("train").sample(512, seed=0)
    batches = tokenise(sample.texts, tokenizer, batch_size=32, max_length=128)
    return [{name: batch.inputs[name] for name in names} for batch in batches]
