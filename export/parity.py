"""Does the graph compute what torch computes? Per variant, on inputs that break weak exports.

Opens graphs with ONNX Runtime; knows no task: inputs are random token ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from compress.errors import ParityError
from export.onnx import longest_sequence
from export.precision import Variant
from export.session import CPU, CUDA, cuda_available, open_session

__all__ = ["CASES", "Parity", "check_parity", "parity_inputs"]

CASES = ("right-padded", "left-padded", "ragged", "batch-1", "longest-sequence")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """The largest difference between a graph and torch on one kind of input.

    Attributes:
        variant: Of the graph.
        case: One of `CASES`.
        max_abs: Largest absolute difference of any logit.
        tolerance: What was accepted.
        provider: Where the graph ran.
    """

    variant: str
    case: str
    max_abs: float
    tolerance: float
    provider: str


def check_parity(
    model: PreTrainedModel, names: tuple[str, ...], variant: Variant, path: Path
) -> tuple[Parity, ...]:
    """Compare the graph at `path` with `model` on every case.

    A graph for CUDA runs on the CPU provider where there is no CUDA device: the same nodes, other
    kernels. The record says which provider it was.

    Raises:
        ParityError: A difference is above the tolerance, or an output is not finite.
    """
    cpu_only = variant.provider == CUDA and not cuda_available()
    provider = CPU if cpu_only else variant.provider
    session = open_session(path, provider)
    results = []
    for case in CASES:
        inputs = parity_inputs(model, names, case)
        expected = _torch_logits(model, inputs)
        found = session.run(["logits"], {k: v.numpy() for k, v in inputs.items()})[0]
        tolerance = variant.tolerance * max(1.0, float(np.abs(expected).max()))
        max_abs = _difference(found, expected, f"{variant.name}, {case}")
        if max_abs > tolerance:
            raise ParityError(
                f"{variant.name}, {case}: the graph must be within {tolerance:.1e} of torch, "
                f"found {max_abs:.1e}; this graph would give wrong outputs"
            )
        results.append(
            Parity(
                variant=variant.name,
                case=case,
                max_abs=max_abs,
                tolerance=tolerance,
                provider=provider,
            )
        )
    return tuple(results)


def parity_inputs(model: PreTrainedModel, names: tuple[str, ...], case: str) -> dict[str, Tensor]:
    """Random token ids with the padding that `case` names: each `(batch, sequence)`, int64."""
    longest = longest_sequence(model)
    rows, length = {"batch-1": (1, 7), "longest-sequence": (2, longest)}.get(case, (3, 13))
    length = min(length, longest)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, model.config.vocab_size, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    if case in ("right-padded", "ragged"):
        mask[0, length // 2 :] = 0
    if case in ("left-padded", "ragged"):
        mask[-1, : length // 2] = 0
    types = (torch.arange(length) > length // 2).long().expand(rows, length)
    types = types * int(getattr(model.config, "type_vocab_size", 1) > 1)
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types.contiguous()}
    return {name: given[name] for name in names}


def _torch_logits(model: PreTrainedModel, inputs: dict[str, Tensor]) -> NDArray[np.float32]:
    with torch.inference_mode():
        logits: NDArray[np.float32] = model(**inputs).logits.float().numpy()
    return logits


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32], where: str) -> float:
    for source, values in (("torch", expected), ("the graph", found)):
        if not np.isfinite(values).all():
            raise ParityError(
                f"{where}: {source}'s logits must be finite, found NaN or Inf; use float32 weights"
            )
    return float(np.abs(found.astype(np.float32) - expected).max())
