"""Other model heads, removed sublayers and half precision, exported."""

from __future__ import annotations

import onnx
import pytest

from compress.model.binding import bind
from compress.model.task_head import head_of
from compress_export.support import MODEL_HEADS
from export.graph.fusion import applied_heads
from tests.contract.conftest import Export
from tests.families import class_name, tiny, uneven


@pytest.mark.parametrize("head", [head for head in MODEL_HEADS if head != "sequence"])
def test_every_model_head_exports(head: str, exported: Export) -> None:
    result, folder = exported("bert", "cpu-fp32", head)
    assert all(p.difference <= 1e-4 for p in result.parity)
    graph = onnx.load(folder / "model.onnx").graph
    known = head_of(class_name("bert", head) or "")
    names = [output.name for output in graph.output]
    assert names == list(known.outputs)
    axes = [d.dim_param for d in graph.input[0].type.tensor_type.shape.dim]
    assert axes == ["batch", "choices", "sequence"] if known.choices else ["batch", "sequence"]


@pytest.mark.parametrize(
    ("family", "head"),
    [("xlnet", "question"), ("xlnet", "plain"), ("modernbert", "token"), ("deberta-v2", "masked")],
)
def test_other_shapes_of_encoder_export_with_other_heads(
    family: str, head: str, exported: Export
) -> None:
    result, _ = exported(family, "cpu-fp32", head)
    assert all(p.difference <= 1e-4 for p in result.parity)


@pytest.mark.parametrize("family", ["bert", "xlnet", "modernbert"])
def test_removed_sublayers_export_and_fuse_the_rest(family: str, exported: Export) -> None:
    result, _ = exported(family, "cpu-fp32", removed=True)
    assert 0 not in result.fusion.num_heads
    assert all(p.difference <= 1e-4 for p in result.parity)


@pytest.mark.parametrize("family", ["xlnet", "mpnet", "deberta-v2", "eurobert"])
def test_emitted_attention_in_half_precision(family: str, exported: Export) -> None:
    result, _ = exported(family, "cuda-fp16")
    assert result.fusion.num_heads == applied_heads(uneven(bind(tiny(family)).shape).student_shape)
