"""The int8 graph of every family follows the attention mask, as the float32 graph does."""

from __future__ import annotations

import numpy as np
import pytest

from export.compare import graph_outputs, relative_squared_error
from export.int8_check import CASES
from tests.contract.conftest import Export
from tests.families import FAMILIES, feeds


@pytest.mark.parametrize("family", [*FAMILIES, "deberta-v2, convolution", "deberta-v3"])
def test_a_text_keeps_its_answer_alone_padded_and_beside_others(
    family: str, exported: Export
) -> None:
    result, _ = exported(family, "cpu-int8")
    assert tuple(p.case for p in result.parity) == CASES
    limits = {"weights": 0.51, "texts": 0.1}
    assert all(p.difference <= limits.get(p.case, 0.001) for p in result.parity)
    assert {"Attention", "QAttention"}.isdisjoint(result.fusion.fused)


@pytest.mark.parametrize("family", FAMILIES)
def test_changing_the_mask_changes_the_int8_output_as_the_float32_output(
    family: str, exported: Export
) -> None:
    shortened = []
    for feed in feeds(family):
        mask = feed["attention_mask"].copy()
        mask[:, 2:9:2] = 0  # in the middle of every text
        shortened.append({**feed, "attention_mask": mask})
    given = (feeds(family), shortened)
    floats, int8 = (
        [graph_outputs(exported(family, name)[1] / "model.onnx", texts) for texts in given]
        for name in ("cpu-fp32", "cpu-int8")
    )
    wanted, found = (
        np.concatenate([a[0] - b[0] for a, b in zip(before, after, strict=True)])
        for before, after in (floats, int8)
    )
    lengths = np.linalg.norm(wanted), np.linalg.norm(found)
    assert min(lengths) > 0
    assert (found * wanted).sum() > 0.5 * np.prod(
        lengths
    )  # without its mask it would not move at all
    assert relative_squared_error(int8[1], floats[1], centred=True) < 0.1
