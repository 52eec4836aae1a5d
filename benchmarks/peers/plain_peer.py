"""torch.onnx.export, and nothing more."""

from __future__ import annotations

import sys
from pathlib import Path

from exporting import export
from transformers import AutoModelForSequenceClassification

if __name__ == "__main__":
    teacher = AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
    export(teacher, Path(sys.argv[2]))
