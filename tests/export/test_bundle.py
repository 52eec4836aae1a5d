"""ONNX equals torch, fused nodes carry the plan's head counts, and what is checked is checked."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from compress.errors import FusionError, ParityError, RecipeError
from compress.model.binding import bind
from compress.model.surgery import apply_
from export.bundle import Exported, export_variant
from export.graph.fusion import check_heads, inspect_graph
from export.graph.inputs import longest_sequence
from export.graph.quiet import quiet
from export.parity import check_parity
from export.precision.variants import VARIANTS, variant
from tests.families import batch, logits, tiny, uneven
from tests.tokenizer import tiny_tokenizer

Export = Callable[..., tuple[Exported, Path]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Exports each student once for all tests that look at it."""
    root = tmp_path_factory.mktemp("exports")

    @functools.cache
    def export(family: str, name: str) -> tuple[Exported, Path]:
        model = tiny(family)
        apply_(model, uneven(bind(model).shape))
        folder = root / f"{family}-{name}"
        return export_variant(model, tiny_tokenizer(family), variant(name), folder), folder

    return export


def test_portable_graph_keeps_to_the_standard_opset(exported: Export) -> None:
    _, folder = exported("bert", "portable")
    graph = onnx.load(folder / "model.onnx")
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}


def test_axes_are_named_batch_and_sequence(exported: Export) -> None:
    _, folder = exported("bert", "cpu-fp32")
    graph = onnx.load(folder / "model.onnx").graph
    names = {i.name: [d.dim_param for d in i.type.tensor_type.shape.dim] for i in graph.input}
    assert names == {
        name: ["batch", "sequence"] for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    assert graph.output[0].name == "logits"
    assert graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_a_variant_folder_holds_one_graph_with_config_and_tokenizer(exported: Export) -> None:
    _, folder = exported("bert", "portable")
    names = {p.name for p in folder.iterdir()}
    assert {"model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"} <= names
    assert [n for n in names if ".onnx" in n] == ["model.onnx"]


def test_int8_quantises_every_projection_and_leaves_attention_its_mask(exported: Export) -> None:
    result, _ = exported("bert", "cpu-int8")
    assert result.fusion.fused["MultiHeadAttention"] == 3
    assert result.fusion.ops.get("MatMul", 0) == 0
    assert result.fusion.num_heads == (3, 2, 3)


@pytest.mark.parametrize("name", ["cuda-fp32", "cuda-fp16"])
def test_cuda_variants_export_without_a_gpu(name: str, exported: Export) -> None:
    result, folder = exported("bert", name)
    assert result.fusion.num_heads == (3, 2, 3)
    if name == "cuda-fp16":
        weights = onnx.load(folder / "model.onnx").graph.initializer
        assert onnx.TensorProto.FLOAT16 in {w.data_type for w in weights}


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cuda-fp32", "cuda-fp16"])
def test_cuda_variants_run_on_cuda(name: str, exported: Export) -> None:
    assert {p.provider for p in exported("bert", name)[0].parity} == {"CUDAExecutionProvider"}


def test_exporting_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = tiny("bert")
    model.set_attn_implementation("sdpa")
    before = logits(model)
    export_variant(model, tiny_tokenizer("bert"), variant("cuda-fp16"), tmp_path)
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(logits(model), before)


def test_wrong_head_counts_are_an_error(exported: Export, tmp_path: Path) -> None:
    """What ONNX Runtime's classic optimiser does to unevenly pruned heads, caught."""
    _, folder = exported("bert", "cpu-fp32")
    graph = onnx.load(folder / "model.onnx")
    for node in graph.graph.node:
        for attribute in node.attribute:
            if attribute.name == "num_heads":
                attribute.i = 4
    onnx.save(graph, tmp_path / "stamped.onnx")
    model = tiny("bert")
    apply_(model, uneven(bind(model).shape))
    with pytest.raises(FusionError, match=r"\[3, 2, 3\], the plan's, found \[4, 4, 4\]"):
        check_heads(inspect_graph(tmp_path / "stamped.onnx"), bind(model).shape, "stamped")


def test_a_graph_of_another_model_fails_parity(exported: Export) -> None:
    _, folder = exported("bert", "portable")
    other = tiny("bert", seed=1)
    names = ("input_ids", "token_type_ids", "attention_mask")
    with pytest.raises(ParityError, match="portable, right-padded"):
        check_parity(other, names, variant("portable"), folder / "model.onnx")


def test_non_finite_outputs_are_refused(exported: Export, tmp_path: Path) -> None:
    _, folder = exported("bert", "portable")
    graph = onnx.load(folder / "model.onnx")
    for tensor in graph.graph.initializer:
        if tensor.name == "classifier.bias":
            tensor.raw_data = np.full(3, np.nan, np.float32).tobytes()
    broken = tmp_path / "model.onnx"
    onnx.save(graph, broken)
    names = ("input_ids", "token_type_ids", "attention_mask")
    with pytest.raises(ParityError, match="NaN or Inf"):
        check_parity(tiny("bert"), names, variant("portable"), broken)


def test_graph_runs_shapes_that_it_has_not_seen(tmp_path: Path) -> None:
    model = tiny("roberta")
    export_variant(model, tiny_tokenizer("roberta"), variant("cpu-fp32"), tmp_path)
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    for rows, length in ((5, 3), (3, 40), (7, 31)):
        data = batch(rows, length)
        feed = {i.name: data[i.name].numpy() for i in session.get_inputs()}
        assert np.abs(session.run(None, feed)[0] - logits(model, data).numpy()).max() <= 1e-4


def test_longest_sequence_leaves_robertas_offset_out() -> None:
    assert longest_sequence(tiny("bert")) == 48
    assert longest_sequence(tiny("roberta")) == 46


def test_unknown_variant_lists_the_known() -> None:
    known = "portable, portable-int8, portable-fp16, cpu-fp32, cpu-int8"
    with pytest.raises(RecipeError, match=known):
        variant("tensorrt")


def test_variants_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        VARIANTS[0].half = True  # type: ignore[misc]


def test_quiet_leaves_the_callers_own_silence(caplog: pytest.LogCaptureFixture) -> None:
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with quiet():
            assert logging.root.manager.disable == logging.ERROR
        assert logging.root.manager.disable == logging.ERROR
    finally:
        logging.disable(before)
