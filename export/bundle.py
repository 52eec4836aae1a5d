"""From a model to the folders that serving stacks load: one graph, config and tokenizer each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compress.checkpoint.tokenizer import save_tokenizer
from compress.model.binding import bind
from export.exporter import export_graphs
from export.graph.fusion import Fusion, check_heads, inspect_graph
from export.graph.inputs import input_names
from export.graph.outputs import Feeds
from export.graph.reference_texts import prose_feeds
from export.parity import Parity, check_parity, check_quantised
from export.precision.variants import Variant

__all__ = ["Exported", "export_bundle", "export_variant"]

GRAPH = "model.onnx"


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """One variant on disk: what is fused in it, and how near it is to torch."""

    variant: str
    fusion: Fusion
    parity: tuple[Parity, ...]
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """As plain lists and numbers, for the manifest."""
        return asdict(self)


def export_bundle(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    variants: Sequence[Variant],
    folder: Path,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    feeds: Feeds = (),
) -> tuple[Exported, ...]:
    """Write `folder/<variant>/` for each variant: the graph, `config.json`, the tokenizer's files.

    Args:
        model: A model in evaluation mode, on the CPU, in float32.
        tokenizer: The model's tokenizer; its inputs become the graph's.
        variants: Variants to write.
        folder: Made if absent.
        progress: Called after every variant.
        feeds: Real texts as the graph's inputs: static int8 takes its ranges from them, and every
            int8 graph is judged on them. Where there are none, plain English sentences judge.

    Raises:
        FusionError: A fused attention has another head count than the model.
        ParityError: A graph does not compute what the model computes, or an int8 graph what its
            float32 source computes.
    """
    folders = [folder / variant.name for variant in variants]
    progress("export", 0, len(variants))
    return _export(model, tokenizer, variants, folders, feeds, progress)


def export_variant(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    variant: Variant,
    folder: Path,
    feeds: Feeds = (),
) -> Exported:
    """Write one variant into `folder` and check it; see `export_bundle`."""
    (exported,) = _export(model, tokenizer, [variant], [folder], feeds)
    return exported


def _export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    variants: Sequence[Variant],
    folders: Sequence[Path],
    feeds: Feeds,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[Exported, ...]:
    names = input_names(model, tokenizer.model_input_names)
    graphs = [folder / GRAPH for folder in folders]
    with tempfile.TemporaryDirectory(prefix="compress-export-") as sources:
        made = export_graphs(model, names, variants, graphs, feeds, progress, Path(sources))
        judging = feeds or (prose_feeds(model, tokenizer, names) if made else ())
        exported = []
        sound: set[Path] = set()
        for variant, folder, graph in zip(variants, folders, graphs, strict=True):
            if variant.int8:
                source = made[variant.name]
                if source not in sound:
                    check_parity(model, names, variant, source)
                    sound.add(source)
                parity = check_quantised(model, variant, source, graph, judging)
            else:
                parity = check_parity(model, names, variant, graph)
            exported.append(_described(model, tokenizer, variant, folder, parity))
    return tuple(exported)


def _described(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    variant: Variant,
    folder: Path,
    parity: tuple[Parity, ...],
) -> Exported:
    """Put config and tokenizer beside a graph, and compare its head counts with the model's."""
    model.config.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    fusion = inspect_graph(folder / GRAPH)
    if variant.fusions:
        check_heads(fusion, bind(model).shape, variant.name)
    return Exported(
        variant=variant.name,
        fusion=fusion,
        parity=parity,
        size_bytes=sum(p.stat().st_size for p in folder.glob("model.onnx*")),
    )
