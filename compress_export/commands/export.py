"""`export`: a checkpoint to ONNX, each variant checked against torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from benchmarks.report.card import Card, read_base, write_card
from benchmarks.tasks import TextTask, tokenise
from compress.checkpoint.checkpoint import load
from compress.errors import RecipeError
from compress.files.folder import writing
from compress.model.binding import bind
from compress.model.task_head import stock_class
from compress.plan.plan import EncoderShape
from compress_export.console import note, progress, table
from compress_export.console import out as console
from compress_export.loading import load_tokenizer, local_folder, pooling_mode
from export.bundle import Exported, export_bundle
from export.graph.inputs import input_names
from export.graph.outputs import Feeds
from export.precision.variants import VARIANTS, variant
from export.serving.target import parse_targets, served, variants_of
from export.serving.write import (
    SERVING,
    check_served,
    describe,
    make_source,
    write_serving,
)

_USUAL = ("portable", "cpu-fp32", "cpu-int8")


def run(
    model: str,
    out: Path,
    names: list[str],
    texts: Path | None,
    serve: list[str],
    *,
    as_json: bool,
) -> None:
    """Write a bundle to `out`: variants, and folders for serving stacks made of them.

    Args:
        model: Checkpoint, or a Hub id.
        out: Where.
        names: Variants; left out, the usual ones, or what the stacks take.
        texts: To calibrate static int8 on.
        serve: `STACK` or `STACK@PRECISION` each.
        as_json: Print JSON.
    """
    orders = parse_targets(serve)
    wanted = {variant(name).name for name in names or (() if orders else _USUAL)}
    wanted |= set(variants_of(orders))
    loaded, tokenizer = load(model), load_tokenizer(model)
    added = sorted(wanted - {variant(name).name for name in names})
    if names and added:
        note(f"for the serving stacks also: {', '.join(added)}")
    chosen = [v for v in VARIANTS if v.name in wanted]
    if texts is None and any(v.static for v in chosen):
        raise RecipeError(
            "--variant cpu-int8-static needs --texts FILE to calibrate on, found none"
        )
    place = local_folder(model)
    pooling = pooling_mode(loaded, place)  # refuses what would give other vectors
    if orders:
        check_served(orders, describe(loaded, tokenizer, place))
    accepted = input_names(loaded, tokenizer.model_input_names)
    feeds = [] if texts is None else _feeds(texts, tokenizer, accepted)
    facts: dict[str, dict[str, Any]] = {}
    with writing(out, "bundle", exported=facts) as folder, progress() as report:
        exported = export_bundle(loaded, tokenizer, chosen, folder / "onnx", report, feeds)
        facts |= {e.variant: e.to_dict() for e in exported}
        if orders:
            source = make_source(loaded, tokenizer, place, folder / "onnx", _name_of(model))
            write_serving(source, orders, folder / SERVING, report)
        card = Card(
            name=_name_of(model),
            architecture=stock_class(loaded).__name__,
            base=read_base(model, place),
            exported=list(facts.values()),
            serving=served(orders),
            pooling=pooling,
        )
        write_card(card, folder)
    if as_json:
        console.print_json(json.dumps(facts))
        return
    _print(out, exported, bind(loaded).shape)
    for order in orders:
        console.print(f"{order.stack.title}: {out / SERVING / order.folder}", soft_wrap=True)


def _print(out: Path, exported: Sequence[Exported], shape: EncoderShape) -> None:
    heads = ", ".join(
        str(shape.n_heads[i] * shape.queries_per_kv_head or "–") for i in shape.applied
    )
    rows = [
        [
            e.variant,
            f"{e.size_bytes / 2**20:.1f} MiB",
            ", ".join(f"{n} {op}" for op, n in e.fusion.fused.items()) or "none",
            heads if e.fusion.num_heads else "–",
            f"{max(p.difference for p in e.parity if p.case != 'weights'):.1e}",
        ]
        for e in exported
    ]
    header = ["variant", "size", "fused nodes", "heads", "max difference"]
    table(f"exported to {out}", header, rows)


def _name_of(model: str) -> str:
    """What a server is to call a model: its folder, or what holds it where that says nothing."""
    path = Path(model).resolve() if Path(model).is_dir() else Path(model)
    return path.parent.name if path.name in ("checkpoint", "model") else path.name


def _feeds(texts: Path, tokenizer: PreTrainedTokenizerBase, names: tuple[str, ...]) -> Feeds:
    """Up to 512 texts of a file as a graph's inputs."""
    sample = TextTask(texts=texts).load("train").sample(512, seed=0)
    batches = tokenise(sample.texts, tokenizer, batch_size=32, max_length=128)
    return [{name: batch.inputs[name] for name in names} for batch in batches]
