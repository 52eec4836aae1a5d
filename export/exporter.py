"""From a torch model to an ONNX graph on disk, through transformers' exporter.

The one module that touches `transformers.exporters`: it is experimental, so parity
(`export.parity`) is the judge of what comes out. Knows no task.
"""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx_ir
import torch
from transformers import PreTrainedModel

from export.graph.attention import eager_attention, fused_attention
from export.graph.inputs import CASES, axes, longest_sequence, made_up_inputs
from export.graph.nodes import finalize_
from export.graph.outputs import Feeds
from export.graph.quiet import quiet
from export.graph.single_file import SINGLE_FILE_LIMIT, write_single_file
from export.precision.int8 import quantise_dynamic, quantise_static
from export.precision.variants import Variant

__all__ = ["export_graph", "export_graphs"]

EXTERNAL_DATA = "model.onnx_data"


def export_graph(
    model: PreTrainedModel, names: tuple[str, ...], variant: Variant, path: Path
) -> None:
    """Write `model` as one ONNX file with the named axes `batch` and `sequence`.

    Multiple choice has a third, `choices`. Attention is exported in its eager form, the one that
    ONNX Runtime's fusions recognise when head counts differ per layer, or as a node of its own
    where they do not (`export.graph.families`). Weights go into the file itself below 2 GB, and
    beside it above.

    Args:
        model: A model in evaluation mode; it is left as it is.
        names: Inputs, see `export.graph.inputs.input_names`.
        variant: Fusions and precision. An int8 variant is exported in float32 here, in the form
            that can be quantised: each attention a `MultiHeadAttention`, since `Attention` has no
            quantised form that takes a mask.
        path: The file to write.
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
    with _traced_form(source, variant), _stateless(source), quiet():
        program = OnnxExporter().export(source, _sample(names, len(named)), config=config).program
        finalize_(program)
        _name_axes(program, named)
        _float_outputs(program)
        _forget_origin(program)
        _save(program, path)


def export_graphs(
    model: PreTrainedModel,
    names: tuple[str, ...],
    variants: Sequence[Variant],
    paths: Sequence[Path],
    feeds: Feeds = (),
    progress: Callable[[str, int, int], None] = lambda *_: None,
    sources: Path | None = None,
) -> dict[str, Path]:
    """Write `model` in several variants, unchecked; folders are made as needed.

    Args:
        model: A model in evaluation mode.
        names: Inputs.
        variants: Variants to write; int8 ones of the same fusions share one float32 graph.
        paths: One file per variant.
        feeds: Inputs to calibrate static int8 on. Where there are none, made-up ones serve, and no
            node is given back to float32: that will do to measure latency alone.
        progress: Called after every variant.
        sources: A folder to keep the float32 graphs in that int8 ones are made from; by default
            they are dropped.

    Returns:
        By int8 variant, the float32 graph that it was made from; of use while `sources` exists.
    """
    made: dict[str, Path] = {}
    with tempfile.TemporaryDirectory(prefix="compress-export-") as folder:
        for done, (variant, path) in enumerate(zip(variants, paths, strict=True), start=1):
            path.parent.mkdir(parents=True, exist_ok=True)
            if variant.int8:
                source = (sources or Path(folder)) / f"{variant.fusions or 'portable'}.onnx"
                if not source.is_file():
                    export_graph(model, names, variant, source)
                _quantise(model, names, variant, source, path, feeds)
                made[variant.name] = source
            else:
                export_graph(model, names, variant, path)
            progress("export", done, len(variants))
    return made


def _quantise(
    model: PreTrainedModel,
    names: tuple[str, ...],
    variant: Variant,
    source: Path,
    path: Path,
    feeds: Feeds,
) -> None:
    if variant.static:
        quantise_static(source, path, feeds or _made_up(model, names), exclude=bool(feeds))
    else:
        quantise_dynamic(source, path)


@contextlib.contextmanager
def _traced_form(model: PreTrainedModel, variant: Variant) -> Iterator[None]:
    """Within the block, tracing `model` gives what the variant is to hold."""
    form = fused_attention(model, emitted=variant.int8) if variant.fusions else None
    with form or eager_attention(model):
        yield


def _made_up(model: PreTrainedModel, names: tuple[str, ...]) -> Feeds:
    cases = (made_up_inputs(model, names, case) for case in CASES[:2])
    return [{name: tensor.numpy() for name, tensor in case.items()} for case in cases]


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


def _float_outputs(program: Any) -> None:
    """Give float16 outputs as float32, whatever is computed inside: clients expect that."""
    graph = program.graph
    for i, half in enumerate(list(graph.outputs)):
        if half.dtype != onnx_ir.DataType.FLOAT16:
            continue
        cast = onnx_ir.node("Cast", [half], {"to": onnx_ir.DataType.FLOAT.value})
        (value,) = cast.outputs
        value.name, half.name = half.name, f"{half.name}_half"
        value.shape, value.type = half.shape, onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
        graph.append(cast)
        graph.outputs[i] = value


def _forget_origin(program: Any) -> None:
    """Drop what torch noted of where each node came from: paths of this machine among it."""
    graph = program.graph
    nodes = list(graph)
    values = [*graph.inputs, *graph.outputs, *graph.initializers.values()]
    values += [output for node in nodes for output in node.outputs]
    for part in (program, graph, *nodes, *values):
        part.metadata_props.clear()
    for node in nodes:
        node.doc_string = None


def _save(program: Any, path: Path) -> None:
    size = sum(value.const_value.nbytes for value in program.graph.initializers.values())
    if size > SINGLE_FILE_LIMIT:
        onnx_ir.save(program, str(path), external_data=EXTERNAL_DATA)
    else:
        write_single_file(program, path)
