"""What serving stacks load: one module a stack, each with its record; `STACKS` is the index."""

from __future__ import annotations

from export.serving.stack import Stack
from export.serving.stacks import (
    browser,
    extensions,
    infinity,
    mlserver,
    native,
    onnxruntime,
    openvino,
    optimum,
    sentence_transformers,
    tei,
    transformers_js,
    triton,
)

__all__ = ["STACKS"]

STACKS: tuple[Stack, ...] = (
    onnxruntime.STACK,
    extensions.STACK,
    optimum.STACK,
    sentence_transformers.STACK,
    triton.STACK,
    mlserver.STACK,
    tei.STACK,
    infinity.STACK,
    transformers_js.STACK,
    openvino.STACK,
    native.STACK,
    browser.STACK,
)
