"""optimum-onnx: export, then its optimisation level O3."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from optimum.onnxruntime import (
    AutoOptimizationConfig,
    ORTModelForSequenceClassification,
    ORTOptimizer,
)

if __name__ == "__main__":
    model = ORTModelForSequenceClassification.from_pretrained(sys.argv[1], export=True)
    with tempfile.TemporaryDirectory() as folder:
        optimiser = ORTOptimizer.from_pretrained(model)
        optimiser.optimize(AutoOptimizationConfig.O3(), save_dir=folder, file_suffix="")
        (made,) = Path(folder).glob("*.onnx")
        Path(sys.argv[2]).write_bytes(made.read_bytes())
