"""onnxsim: a graph of `plain`, simplified. The first argument is that graph's folder."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import onnxsim

if __name__ == "__main__":
    graph = onnx.load(Path(sys.argv[1]) / "model.onnx")
    simplified, checked = onnxsim.simplify(graph)
    if not checked:
        raise SystemExit("onnxsim's own check of the simplified graph failed")
    onnx.save(simplified, sys.argv[2])
