"""MLServer and KServe's V2 protocol: settings and a short runtime that holds the graph."""

from __future__ import annotations

from pathlib import Path

from export.serving.stack import Precision, Source, Stack, place_guide, template, write_json
from export.serving.stacks import optimum

__all__ = ["STACK"]


def write(source: Source, folder: Path, precisions: tuple[Precision, ...]) -> None:
    """`model-settings.json`, `settings.json`, `runtime.py`, and the files that it opens."""
    optimum.write(source, folder, precisions)
    text = template("mlserver_runtime.py.in", LENGTH=str(source.max_length))
    (folder / "runtime.py").write_text(text, encoding="utf-8")
    write_json(
        folder / "model-settings.json",
        {
            "name": source.name,
            "implementation": "runtime.OnnxEncoder",
            "parameters": {"uri": "./model.onnx", "version": "v1"},
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [
                {"name": name, "datatype": "FP32",
                 "shape": [d if isinstance(d, int) else -1 for d in dims]}
                for name, dims in source.outputs.items()
            ],
        },
    )  # fmt: skip
    place_guide(folder, "mlserver.md", NAME=source.name)
    write_json(folder / "settings.json", {"parallel_workers": 0, "metrics_endpoint": None})


STACK = Stack(
    name="mlserver",
    title="MLServer (V2 protocol)",
    graphs={k: v for k, v in optimum.GRAPHS.items() if k != "fp16"},
    write=write,
    probe="mlserver_probe.py",
    packages=("mlserver>=1.7", "onnxruntime", "tokenizers", "numpy"),
    modules=("mlserver", "onnxruntime", "tokenizers"),
    real="MLServer on loopback, asked over HTTP",
)
