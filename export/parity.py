"""Does the graph compute what torch computes? Per variant, on inputs that break weak exports.

Opens graphs with ONNX Runtime; knows no task: inputs are random token ids. An int8 graph is no copy
of the model: the float32 graph that it was made from is held against torch, and it against that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from compress.errors import ParityError
from compress.model.task_head import named_outputs
from export.graph.attention import eager_attention
from export.graph.inputs import CASES, longest_sequence, made_up_inputs, read_position
from export.graph.outputs import Feeds, PaddingRule
from export.graph.session import CPU, CUDA, cuda_available, open_session
from export.precision.int8_check import check_int8
from export.precision.variants import Variant

__all__ = ["Parity", "check_parity", "check_quantised"]

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """The largest difference between a graph and its reference on one kind of input.

    Attributes:
        variant: Variant of the graph.
        case: One of `export.graph.inputs.CASES`, or of `export.precision.int8_check.CASES`.
        difference: Largest absolute difference of any output from torch's; of an int8 graph, see
            `export.precision.int8_check.Int8Case`.
        tolerance: The largest difference that is accepted.
        provider: The execution provider that the graph ran on.
    """

    variant: str
    case: str
    difference: float
    tolerance: float
    provider: str


def check_quantised(
    model: PreTrainedModel, variant: Variant, source: Path, path: Path, feeds: Feeds
) -> tuple[Parity, ...]:
    """Compare an int8 graph with its float32 source, which `check_parity` holds against torch.

    Args:
        model: Says how its texts are padded.
        variant: Variant of the int8 graph.
        source: The float32 graph that it was made from.
        path: The int8 graph.
        feeds: Real texts, as the graph's inputs.

    Raises:
        ParityError: See `export.precision.int8_check.check_int8`.
    """
    rule = PaddingRule(
        token_id=int(getattr(model.config, "pad_token_id", None) or 0),
        left=read_position(model) < 0,
        longest=longest_sequence(model),
    )
    return tuple(
        Parity(
            variant=variant.name,
            case=found.case,
            difference=found.difference,
            tolerance=found.tolerance,
            provider=variant.provider,
        )
        for found in check_int8(source, path, feeds, rule, variant.name)
    )


def check_parity(
    model: PreTrainedModel, names: tuple[str, ...], variant: Variant, path: Path
) -> tuple[Parity, ...]:
    """Compare the float graph at `path` with `model` on every case.

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
        inputs = made_up_inputs(model, names, case)
        expected = _expected(model, inputs)
        arrays = session.run(list(expected), {k: v.numpy() for k, v in inputs.items()})
        found = dict(zip(expected, arrays, strict=True))
        difference, tolerance = _compare(variant, case, found, expected)
        results.append(
            Parity(
                variant=variant.name,
                case=case,
                difference=difference,
                tolerance=tolerance,
                provider=provider,
            )
        )
    return tuple(results)


def _expected(model: PreTrainedModel, inputs: dict[str, Tensor]) -> dict[str, Array]:
    """What torch gives with plain operators.

    Its faster kernels give something else for a query that has nothing to attend to, such as a
    padding token in local attention (ModernBERT).
    """
    with torch.inference_mode(), eager_attention(model):
        outputs = named_outputs(model, inputs)
    return {name: value.float().numpy() for name, value in outputs.items()}


def _compare(
    variant: Variant, case: str, found: dict[str, Array], expected: dict[str, Array]
) -> tuple[float, float]:
    """Largest difference of any output, and what was accepted."""
    where = f"{variant.name}, {case}"
    largest = max(float(np.abs(values).max()) for values in expected.values())
    tolerance = variant.tolerance * max(1.0, largest)
    difference = max(
        _difference(found[name], expected[name], f"{where}, {name}") for name in expected
    )
    if difference > tolerance:
        raise ParityError(
            f"{where}: the graph must be within {tolerance:.1e} of torch, found {difference:.1e}; "
            "this graph would give wrong outputs"
        )
    return difference, tolerance


def _difference(found: Array, expected: Array, where: str) -> float:
    for source, values in (("torch's output", expected), ("the graph's", found)):
        if not np.isfinite(values).all():
            raise ParityError(
                f"{where}: {source} must be finite, found NaN or Inf; use float32 weights"
            )
    return float(np.abs(found.astype(np.float32) - expected).max())
