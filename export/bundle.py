"""From a model to the folders that serving stacks load: one graph, config and tokenizer each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compress.binding import bind
from export.fusion import Fusion, check_heads, inspect_graph
from export.inputs import input_names
from export.onnx import export_graph, quantise_int8
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
) -> tuple[Exported, ...]:
    """Write `folder/<variant>/` for each variant: the graph, `config.json`, the tokenizer's files.

    Args:
        model: In evaluation mode, on the CPU, in float32.
        tokenizer: Of the model; its inputs become the graph's.
        variants: What to write.
        folder: Made if absent.
        progress: Told after every variant.

    Raises:
        FusionError: A fused attention has another head count than the model.
        ParityError: A graph does not compute what the model computes.
    """
    done = []
    float_graph: Path | None = None
    progress("export", 0, len(variants))
    for index, variant in enumerate(variants, start=1):
        source = float_graph if variant.int8 else None
        exported = export_variant(model, tokenizer, variant, folder / variant.name, source)
        if variant.name == "cpu-fp32":
            float_graph = folder / variant.name / GRAPH
        done.append(exported)
        progress("export", index, len(variants))
    return tuple(done)


def export_variant(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    variant: Variant,
    folder: Path,
    float_graph: Path | None = None,
) -> Exported:
    """Write one variant and check it; see `export_bundle`.

    Args:
        model: In evaluation mode, on the CPU, in float32.
        tokenizer: Of the model.
        variant: What to write.
        folder: Made if absent; holds one `.onnx`.
        float_graph: The same model's `cpu-fp32` graph, which an int8 variant quantises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = input_names(model, tokenizer.model_input_names)
    path = folder / GRAPH
    if variant.int8:
        _write_int8(model, names, variant, path, float_graph)
    else:
        export_graph(model, names, variant, path)
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    fusion = inspect_graph(path)
    if variant.fusions:
        check_heads(fusion, bind(model).shape, variant.name)
    return Exported(
        variant=variant.name,
        fusion=fusion,
        parity=check_parity(model, names, variant, path),
        size_bytes=sum(p.stat().st_size for p in folder.glob("model.onnx*")),
    )


def _write_int8(
    model: PreTrainedModel,
    names: tuple[str, ...],
    variant: Variant,
    path: Path,
    float_graph: Path | None,
) -> None:
    if float_graph is not None:
        quantise_int8(float_graph, path)
        return
    temporary = path.with_name("float32.onnx")
    try:
        export_graph(model, names, variant, temporary)
        quantise_int8(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
