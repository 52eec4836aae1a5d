"""The fused graph of every family and model head equals torch; the table of nodes is true."""

from __future__ import annotations

import pytest

from compress.model.binding import bind
from export.graph.families import FUSED_FAMILIES, fused_family
from export.graph.fusion import applied_heads
from export.graph.inputs import CASES
from tests.contract.conftest import Export
from tests.families import FAMILIES, VARIANTS, tiny, uneven


@pytest.mark.parametrize("family", FAMILIES)
def test_fused_graph_equals_torch_on_every_case(family: str, exported: Export) -> None:
    result, _ = exported(family, "cpu-fp32")
    assert tuple(p.case for p in result.parity) == CASES
    assert all(p.difference <= 1e-4 for p in result.parity)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_of_fused_nodes_is_true(family: str, exported: Export) -> None:
    shape = uneven(bind(tiny(family)).shape).student_shape
    fusion = exported(family, "cpu-fp32")[0].fusion
    row = fused_family(family)
    assert set(fusion.fused) == {*filter(None, [row.attention]), *row.others}
    if row.attention:
        assert fusion.num_heads == applied_heads(shape)
        assert fusion.fused[row.attention] == len(shape.applied)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_family_can_also_be_exports(variant: str, exported: Export) -> None:
    result, _ = exported(variant, "cpu-fp32")
    assert all(p.difference <= 1e-4 for p in result.parity)


def test_every_family_has_its_row() -> None:
    assert tuple(row.model_type for row in FUSED_FAMILIES) == FAMILIES
