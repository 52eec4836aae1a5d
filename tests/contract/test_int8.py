"""The int8 graph of every family follows the attention mask, as the float32 graph does."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from export.graph.outputs import graph_outputs, relative_squared_error
from export.precision.int8_check import CASES
from tests.contract.conftest import Export
from tests.families import FAMILIES, feeds

Answers: TypeAlias = list[list[NDArray[np.float32]]]


@pytest.mark.parametrize("family", [*FAMILIES, "deberta-v2, convolution", "deberta-v3"])
def test_a_text_keeps_its_answer_alone_padded_and_beside_others(
    family: str, exported: Export
) -> None:
    result, _ = exported(family, "cpu-int8")
    assert tuple(p.case for p in result.parity) == CASES
    # Tiny random models: their outputs hardly vary from text to text, which int8 is held against.
    limits = {"weights": 0.51, "texts": 0.2}
    assert all(p.difference <= limits.get(p.case, 0.001) for p in result.parity)
    assert {"Attention", "QAttention"}.isdisjoint(result.fusion.fused)


@pytest.mark.parametrize("family", FAMILIES)
def test_changing_the_mask_changes_the_int8_output_as_the_float32_output(
    family: str, exported: Export
) -> None:
    floats, int8 = (
        _with_and_without(family, exported(family, n)[1]) for n in ("cpu-fp32", "cpu-int8")
    )
    assert _same_movement(floats, int8)
    assert relative_squared_error(int8[1], floats[1]) < 0.1


@pytest.mark.parametrize("layers", [1, 3])
def test_a_mask_that_is_lost_in_some_layers_is_noticed(
    layers: int, exported: Export, tmp_path: Path
) -> None:
    floats = _with_and_without("bert", exported("bert", "cpu-fp32")[1])
    graph = onnx.load(exported("bert", "cpu-int8")[1] / "model.onnx")
    attention = [node for node in graph.graph.node if node.op_type == "MultiHeadAttention"]
    for node in attention[:layers]:
        del node.input[3:]
    onnx.save(graph, tmp_path / "model.onnx")
    assert len(attention) == 3
    assert not _same_movement(floats, _with_and_without("bert", tmp_path))


def _with_and_without(family: str, folder: Path) -> tuple[Answers, Answers]:
    """A graph's outputs for made-up texts, and for them with all but the first token masked."""
    whole, masked = feeds(family), []
    for feed in whole:
        mask = np.zeros_like(feed["attention_mask"])
        mask[:, 0] = 1
        masked.append({**feed, "attention_mask": mask})
    path = folder / "model.onnx"
    return graph_outputs(path, whole), graph_outputs(path, masked)


def _same_movement(floats: tuple[Answers, Answers], int8: tuple[Answers, Answers]) -> bool:
    """Whether a changed mask moves the outputs of both graphs alike (cosine of the changes).

    What int8 costs these tiny random models is a twentieth to a tenth of how their outputs vary,
    so that a change of the mask has to move them by about as much as they vary.
    """
    expected, found = (
        np.concatenate([a[0] - b[0] for a, b in zip(before, after, strict=True)])
        for before, after in (floats, int8)
    )
    lengths = float(np.linalg.norm(expected) * np.linalg.norm(found))
    return lengths > 0 and float((found * expected).sum()) > 0.95 * lengths
