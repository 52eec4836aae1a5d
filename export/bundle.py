"""From a model to the folders that serving stacks load: one graph, config and tokenizer each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compress.binding import bind
from compress.tokenizer import save_tokenizer
from export.fusion import Fusion, check_heads, inspect_graph
from export.inputs import input_names
from export.int8 import Feeds
from export.onnx import export_graphs
from export.parity import Parity, check_parity
from export.precision import Variant

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
        model: In evaluation mode, on the CPU, in float32.
        tokenizer: Of the model; its inputs become the graph's.
        variants: What to write.
        folder: Made if absent.
        progress: Told after every variant.
        feeds: Inputs to calibrate static int8 on.

    Raises:
        FusionError: A fused attention has another head count than the model.
        ParityError: A graph does not compute what the model computes.
    """
    names = input_names(model, tokenizer.model_input_names)
    folders = [folder / variant.name for variant in variants]
    progress("export", 0, len(variants))
    export_graphs(model, names, variants, [f / GRAPH for f in folders], feeds, progress)
    return tuple(
        _checked(model, tokenizer, names, variant, f)
        for variant, f in zip(variants, folders, strict=True)
    )


def export_variant(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    variant: Variant,
    folder: Path,
) -> Exported:
    """Write one variant into `folder` and check it; see `export_bundle`."""
    names = input_names(model, tokenizer.model_input_names)
    export_graphs(model, names, [variant], [folder / GRAPH])
    return _checked(model, tokenizer, names, variant, folder)


def _checked(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    names: tuple[str, ...],
    variant: Variant,
    folder: Path,
) -> Exported:
    """Put config and tokenizer beside a graph, and hold it against the model."""
    model.config.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    fusion = inspect_graph(folder / GRAPH)
    if variant.fusions:
        check_heads(fusion, bind(model).shape, variant.name)
    return Exported(
        variant=variant.name,
        fusion=fusion,
        parity=check_parity(model, names, variant, folder / GRAPH),
        size_bytes=sum(p.stat().st_size for p in folder.glob("model.onnx*")),
    )
