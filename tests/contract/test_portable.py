"""The portable graph of every family equals torch and keeps to the standard opset.

Model heads take turns, so that each is exported with several families.
"""

from __future__ import annotations

import onnx
import pytest

from compress_export.support import MODEL_HEADS
from export.graph.inputs import CASES
from tests.contract.conftest import Export
from tests.families import FAMILIES, class_name


@pytest.mark.parametrize("family", FAMILIES)
def test_portable_graph_equals_torch_on_every_case(family: str, exported: Export) -> None:
    heads = [head for head in MODEL_HEADS if class_name(family, head)]
    head = heads[FAMILIES.index(family) % len(heads)]
    result, folder = exported(family, "portable", head)
    assert tuple(p.case for p in result.parity) == CASES
    assert all(p.difference <= 1e-4 for p in result.parity)
    nodes = onnx.load(folder / "model.onnx").graph.node
    assert {node.domain for node in nodes} <= {"", "ai.onnx"}
