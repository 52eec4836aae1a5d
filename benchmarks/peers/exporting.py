"""A torch classifier to ONNX as its own documentation says: no fusion, dynamic batch and length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def export(model: Any, out: Path) -> None:
    """Write `out`; the model takes input_ids, attention_mask and token_type_ids."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    ids = torch.randint(5, 1000, (2, 16))
    inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=512)}
    torch.onnx.export(
        _Logits(model).eval(),
        inputs,
        out,
        input_names=list(names),
        output_names=["logits"],
        dynamic_shapes=(axes, axes, axes),
        external_data=False,
    )


class _Logits(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
        """Logits alone."""
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).logits
