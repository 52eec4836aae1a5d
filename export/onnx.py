"""From a torch model to an ONNX graph on disk, through transformers' exporter.

The one module that touches `transformers.exporters` and ONNX Runtime's quantiser: both are
experimental, so parity (`export.parity`) is the judge of what comes out. Knows no task.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from export.attention import eager_attention, fused_attention
from export.inputs import axes, longest_sequence
from export.nodes import settle_
from export.precision import Variant

__all__ = ["export_graph", "export_graphs", "quantise_int8"]

SINGLE_FILE_LIMIT = 2_000_000_000
EXTERNAL_DATA = "model.onnx_data"


def export_graph(
    model: PreTrainedModel, names: tuple[str, ...], variant: Variant, path: Path
) -> None:
    """Write `model` as one ONNX file with the named axes `batch` and `sequence`.

    Multiple choice has a third, `choices`. Attention is exported in its eager form, the one that
    ONNX Runtime's fusions recognise when head counts differ per layer, or as a node of its own
    where they do not (`export.families`). Weights go into the file itself below 2 GB, and beside
    it above.

    Args:
        model: In evaluation mode; left as it was found.
        names: Inputs, see `export.inputs.input_names`.
        variant: Fusions and precision. An int8 variant is exported in float32 here; see
            `quantise_int8`.
        path: Where to write.
    """
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    named = axes(model)
    longest = longest_sequence(model)
    config = OnnxConfig(
        dynamic_shapes=dict.fromkeys(names, _dims(named, longest)),
        ort_fusions=variant.fusions,
        prefer_deferred_runtime_asserts_over_guards=True,
    )
    source = copy.deepcopy(model).half() if variant.half else model
    form = fused_attention if variant.fusions else eager_attention
    with form(source), _stateless(source), _quiet():
        program = OnnxExporter().export(source, _sample(names, len(named)), config=config).program
        settle_(program)
        _name_axes(program, named)
        _save(program, path)


def export_graphs(
    model: PreTrainedModel,
    names: tuple[str, ...],
    variants: Sequence[Variant],
    paths: Sequence[Path],
) -> None:
    """Write `model` in several variants, unchecked; folders are made as needed.

    Args:
        model: In evaluation mode.
        names: Inputs.
        variants: An int8 one is made from the float32 graph of the same fusions, where there is
            one among them.
        paths: Where to write, one a variant.
    """
    floats: dict[str | None, Path] = {}
    for variant, path in sorted(zip(variants, paths, strict=True), key=lambda pair: pair[0].int8):
        path.parent.mkdir(parents=True, exist_ok=True)
        if variant.int8 and variant.fusions in floats:
            quantise_int8(floats[variant.fusions], path)
            continue
        export_graph(model, names, variant, path)
        if variant.int8:
            quantise_int8(path, path)
        elif not variant.half:
            floats[variant.fusions] = path


def _dims(named: tuple[str, ...], longest: int | None) -> dict[int, Any]:
    *outer, sequence = named
    dims = [torch.export.Dim(name, min=1) for name in outer]
    return dict(enumerate([*dims, torch.export.Dim(sequence, min=1, max=longest)]))


def _sample(names: tuple[str, ...], n_axes: int) -> dict[str, Any]:
    """Inputs of shape `(2, 16)`, or `(2, 3, 16)`: sizes 0 and 1 would be taken for constants.

    Each is a tensor of its own: tracing takes one tensor for one input.
    """
    shape = (2, 16) if n_axes == 2 else (2, 3, 16)
    return {
        name: torch.full(shape, int(name != "token_type_ids"), dtype=torch.long) for name in names
    }


def quantise_int8(source: Path, target: Path) -> None:
    """Quantise a float32 graph dynamically: weights int8 per channel, activations at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source)
    # The quantiser transposes weights in place and then trips over their recorded shapes.
    weights = {initializer.name for initializer in graph.graph.initializer}
    kept = [info for info in graph.graph.value_info if info.name not in weights]
    del graph.graph.value_info[:]
    graph.graph.value_info.extend(kept)
    _drop_equal_sizes(graph)
    with _quiet():
        quantize_dynamic(
            graph,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=source.stat().st_size > SINGLE_FILE_LIMIT,
        )


def _drop_equal_sizes(graph: onnx.ModelProto) -> None:
    """Drop `qkv_hidden_sizes` where all three agree.

    The weight's shape says it, and the quantiser skips any attention that has the attribute.
    """
    for node in graph.graph.node:
        for attribute in list(node.attribute):
            if attribute.name == "qkv_hidden_sizes" and len(set(attribute.ints)) == 1:
                node.attribute.remove(attribute)


@contextlib.contextmanager
def _stateless(model: PreTrainedModel) -> Iterator[None]:
    """Within the block, XLNet keeps no memory of earlier segments: a graph has none to give."""
    before = getattr(model.config, "use_mems_eval", None)
    if before is not None:
        model.config.use_mems_eval = False
    try:
        yield
    finally:
        if before is not None:
            model.config.use_mems_eval = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter: it prints, logs and warns at every step, right or wrong."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        transformers_logging.set_verbosity(before)


def _name_axes(program: Any, named: tuple[str, ...]) -> None:
    """Rename torch's symbols (`s18`, `s41`) to `batch` and `sequence`, wherever they stand."""
    first = program.graph.inputs[0].shape
    names = {str(first[i]): name for i, name in enumerate(named)}
    values = [*program.graph.inputs, *program.graph.outputs]
    values += [output for node in program.graph for output in node.outputs]
    for value in values:
        if value.shape is not None:
            value.shape = onnx_ir.Shape(
                [names.get(str(d), d) if not isinstance(d, int) else d for d in value.shape]
            )


def _save(program: Any, path: Path) -> None:
    size = sum(value.const_value.nbytes for value in program.graph.initializers.values())
    external = EXTERNAL_DATA if size > SINGLE_FILE_LIMIT else None
    onnx_ir.save(program, str(path), external_data=external)
