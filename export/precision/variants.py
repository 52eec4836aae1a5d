"""The variants of a bundle, as data: what is fused, in which precision, for which provider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from compress.errors import RecipeError

__all__ = ["VARIANTS", "Variant", "VariantName", "variant"]

VariantName = Literal[
    "portable",
    "portable-int8",
    "portable-fp16",
    "cpu-fp32",
    "cpu-int8",
    "cpu-int8-static",
    "cuda-fp32",
    "cuda-fp16",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One way to export a model.

    Attributes:
        name: Its folder under `onnx/`.
        fusions: The provider that the graph is fused for; `None` keeps to the standard opset.
        half: Weights and activations in float16.
        int8: Weights in int8 per channel, activations quantised at run time.
        static: Activations quantised by ranges fixed from calibration data instead.
        on_request: Written only where it is named.
        provider: The execution provider that it is made for.
        tolerance: Largest difference from torch that is accepted, relative to the largest
            absolute logit (and at least to 1). Of an int8 variant it holds for the float32 graph
            that it is made from; what int8 itself may cost, `export.precision.int8_check` says.
    """

    name: VariantName
    fusions: Literal["cpu", "cuda"] | None = None
    half: bool = False
    int8: bool = False
    static: bool = False
    on_request: bool = False
    provider: str = "CPUExecutionProvider"
    tolerance: float = 1e-4


_CUDA = "CUDAExecutionProvider"

VARIANTS: tuple[Variant, ...] = (
    Variant(name="portable"),
    Variant(name="portable-int8", int8=True, on_request=True),
    Variant(name="portable-fp16", half=True, on_request=True, tolerance=2e-2),
    Variant(name="cpu-fp32", fusions="cpu"),
    Variant(name="cpu-int8", fusions="cpu", int8=True),
    Variant(
        name="cpu-int8-static",
        fusions="cpu",
        int8=True,
        static=True,
        on_request=True,
    ),
    Variant(name="cuda-fp32", fusions="cuda", provider=_CUDA, tolerance=1e-3),
    Variant(name="cuda-fp16", fusions="cuda", half=True, provider=_CUDA, tolerance=2e-2),
)


def variant(name: str) -> Variant:
    """The variant called `name`.

    Raises:
        RecipeError: There is none of that name.

    Example:
        >>> variant("cpu-int8").int8
        True
    """
    for known in VARIANTS:
        if known.name == name:
            return known
    raise RecipeError(f"a variant must be among {', '.join(get_args(VariantName))}, found {name!r}")
