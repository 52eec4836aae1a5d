"""After a save: load the checkpoint in each way that is promised, and compare logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from compress.batches import Batch, forward
from compress.checkpoint import load
from compress.errors import VerificationError

__all__ = ["verify_reload"]


def verify_reload(folder: Path, model: PreTrainedModel, batch: Batch) -> None:
    """Compare `model` with what its checkpoint loads as; logits must be equal to the bit.

    Args:
        folder: The checkpoint.
        model: What was saved.
        batch: An input.

    Raises:
        VerificationError: A loader that is promised fails or gives other logits.
    """
    with torch.no_grad():
        expected = forward(model.eval(), batch)
        _compare("compress.load", forward(load(folder), batch), expected)
        remote = (folder / "modeling_compressed.py").is_file()
        options: dict[str, Any] = {"trust_remote_code": True} if remote else {}
        name = "AutoModel with remote code" if remote else type(model).__name__
        loader = (
            transformers.AutoModelForSequenceClassification
            if remote
            else getattr(transformers, type(model).__name__)
        )
        try:
            stock = loader.from_pretrained(str(folder), dtype=torch.float32, **options).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise VerificationError(
                f"{folder} must load with {name}, found: {' '.join(str(error).split())[:200]}"
            ) from error
        _compare(name, forward(stock, batch), expected)


def _compare(loader: str, found: Tensor, expected: Tensor) -> None:
    if not torch.equal(found, expected):
        largest = float((found - expected).abs().max())
        raise VerificationError(
            f"the checkpoint loaded with {loader} must give equal logits, "
            f"found a difference of {largest:.1e}"
        )
