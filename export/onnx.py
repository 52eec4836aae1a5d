"""From a torch model to an ONNX graph on disk, through transformers' exporter.

The one module that touches `transformers.exporters` and ONNX Runtime's quantiser: both are
experimental, so parity (`export.parity`) is the judge of what comes out. Knows no task.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from export.precision import Variant

__all__ = ["export_graph", "input_names", "longest_sequence", "quantise_int8"]

AXES = ("batch", "sequence")
SINGLE_FILE_LIMIT = 2_000_000_000
EXTERNAL_DATA = "model.onnx_data"


def export_graph(
    model: PreTrainedModel, names: tuple[str, ...], variant: Variant, path: Path
) -> None:
    """Write `model` as one ONNX file with the named axes `batch` and `sequence`.

    Attention is exported in its eager form, the one that ONNX Runtime's fusions recognise when
    head counts differ per layer. Weights go into the file itself below 2 GB, beside it above.

    Args:
        model: In evaluation mode; left as it was found.
        names: Inputs, see `input_names`.
        variant: Fusions and precision. An int8 variant is exported in float32 here; see
            `quantise_int8`.
        path: Where to write.
    """
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    batch = torch.export.Dim(AXES[0], min=1)
    sequence = torch.export.Dim(AXES[1], min=1, max=longest_sequence(model))
    config = OnnxConfig(
        dynamic_shapes={name: {0: batch, 1: sequence} for name in names},
        ort_fusions=variant.fusions,
    )
    sample: dict[str, Any] = _sample(names)
    source = copy.deepcopy(model).half() if variant.half else model
    with _eager(source), _quiet():
        program = OnnxExporter().export(source, sample, config=config).program
        _name_axes(program)
        _save(program, path)


def input_names(model: PreTrainedModel, tokenizer_names: list[str]) -> tuple[str, ...]:
    """The inputs of the graph: what the tokenizer gives and the model's forward takes."""
    accepted = inspect.signature(model.forward).parameters
    return tuple(name for name in tokenizer_names if name in accepted)


def longest_sequence(model: PreTrainedModel) -> int:
    """Tokens of the longest sequence that the position embeddings carry.

    RoBERTa counts positions from its padding index on, so its table holds more rows than that.
    """
    for name, module in model.base_model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - offset
    return int(model.config.max_position_embeddings)


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


def _sample(names: tuple[str, ...]) -> dict[str, Tensor]:
    """Inputs of shape `(2, 16)`: sizes 0 and 1 would be taken for constants."""
    return {
        name: torch.ones(2, 16, dtype=torch.long)
        if name != "token_type_ids"
        else torch.zeros(2, 16, dtype=torch.long)
        for name in names
    }


@contextlib.contextmanager
def _eager(model: PreTrainedModel) -> Iterator[None]:
    """Within the block, attention runs as plain operators."""
    attention = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(attention)


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


def _name_axes(program: Any) -> None:
    """Rename torch's symbols (`s18`, `s41`) to `batch` and `sequence`, wherever they stand."""
    first = program.graph.inputs[0].shape
    names = {str(first[i]): name for i, name in enumerate(AXES)}
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
