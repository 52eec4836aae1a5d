"""Olive: its `auto-opt` for a CPU, float32."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "olive", "auto-opt", "-m", sys.argv[1], "-o", folder,
                   "--device", "cpu", "--provider", "CPUExecutionProvider", "--precision", "fp32",
                   "--task", "text-classification"]  # fmt: skip
        subprocess.run(command, check=True)
        (made,) = Path(folder).rglob("*.onnx")
        Path(sys.argv[2]).write_bytes(made.read_bytes())
