"""Triton Inference Server: a model repository, with an optional model that tokenises.

KServe's Triton runtime mounts the same layout.
"""

from __future__ import annotations

from pathlib import Path

from export.precision.variants import VariantName
from export.serving.downgrade_opset import downgrade_opset
from export.serving.stack import Precision, Source, Stack, place_guide, place_tokenizer, template

__all__ = ["STACK"]

GRAPHS: dict[Precision, tuple[str, VariantName]] = {
    "fp32": ("model.onnx", "cpu-fp32"),
    "int8": ("model.onnx", "cpu-int8"),
    "fp16": ("model.onnx", "cuda-fp16"),
}
MAX_BATCH = 64
PREFERRED = (8, 16, 32)
QUEUE_MICROSECONDS = 500
WARM_TOKENS = 16


def write(source: Source, folder: Path, precisions: tuple[Precision, ...]) -> None:
    """Three models: the graph, its tokenizer in Python, and both as an ensemble of text.

    The graph carries the oldest opset and IR that its operators allow, since a server refuses what
    is newer than its ONNX Runtime.
    """
    precision = precisions[0]
    name = source.name
    _, variant = GRAPHS[precision]
    model, tokenizer, ensemble = (folder / f"{name}{end}" for end in ("", "-tokenizer", "-text"))
    downgrade_opset(source.graphs / variant / "model.onnx", model / "1" / "model.onnx")
    _write(model / "config.pbtxt", _model_config(source, precision))
    if source.labels:
        _write(model / "labels.txt", "".join(f"{label}\n" for label in source.labels))
    place_tokenizer(source, tokenizer / "1")
    length = str(source.max_length)
    _write(tokenizer / "1" / "model.py", template("triton_tokenizer.py.in", LENGTH=length))
    _write(tokenizer / "config.pbtxt", _tokenizer_config(source))
    (ensemble / "1").mkdir(parents=True)
    _write(ensemble / "1" / ".keep", "")
    _write(ensemble / "config.pbtxt", _ensemble_config(source))
    _write(folder / "kserve.yaml", template("kserve.yaml", NAME=name))
    place_guide(folder, "triton.md", NAME=name)


def _model_config(source: Source, precision: Precision) -> str:
    gpu = precision == "fp16"
    blocks = [
        f'name: "{source.name}"\nbackend: "onnxruntime"\nmax_batch_size: {MAX_BATCH}',
        _values("input", [(name, "TYPE_INT64", "-1") for name in source.inputs]),
        _values("output", _outputs(source), labelled=bool(source.labels)),
        f"dynamic_batching {{\n  preferred_batch_size: [ {', '.join(map(str, PREFERRED))} ]\n"
        f"  max_queue_delay_microseconds: {QUEUE_MICROSECONDS}\n}}",
        f"instance_group [ {{ count: 1 kind: {'KIND_GPU' if gpu else 'KIND_CPU'} }} ]",
        _CUDA if gpu else _THREADS,
        _warm_up(source),
        "version_policy: { latest { num_versions: 1 } }",
    ]
    return "\n".join(blocks) + "\n"


_CUDA = """optimization {
  execution_accelerators {
    gpu_execution_accelerator : [ {
      name : "cuda"
      parameters { key: "use_tf32" value: "0" }
    } ]
  }
}"""
_THREADS = """parameters { key: "intra_op_thread_count" value: { string_value: "0" } }
parameters { key: "execution_mode" value: { string_value: "0" } }"""


def _warm_up(source: Source) -> str:
    inputs = "".join(
        f'  inputs {{ key: "{name}" value: {{ data_type: TYPE_INT64 dims: [ {WARM_TOKENS} ] '
        "zero_data: true } }\n"
        for name in source.inputs
    )
    return f'model_warmup [ {{\n  name: "short"\n  batch_size: 1\n{inputs}}} ]'


def _tokenizer_config(source: Source) -> str:
    blocks = [
        f'name: "{source.name}-tokenizer"\nbackend: "python"\nmax_batch_size: {MAX_BATCH}',
        'input [\n  { name: "text" data_type: TYPE_STRING dims: [ 1 ] },\n'
        '  { name: "pair" data_type: TYPE_STRING dims: [ 1 ] optional: true }\n]',
        _values("output", [(name, "TYPE_INT64", "-1") for name in source.inputs]),
        "instance_group [ { count: 1 kind: KIND_CPU } ]",
        "dynamic_batching { }",
    ]
    return "\n".join(blocks) + "\n"


def _ensemble_config(source: Source) -> str:
    name = source.name
    tokens = "".join(
        f'      output_map {{ key: "{value}" value: "{value}" }}\n' for value in source.inputs
    )
    fed = tokens.replace("output_map", "input_map")
    given = "".join(
        f'      output_map {{ key: "{value}" value: "{value}" }}\n' for value in source.outputs
    )
    steps = (
        "ensemble_scheduling {\n  step [\n    {\n"
        f'      model_name: "{name}-tokenizer"\n      model_version: -1\n'
        '      input_map { key: "text" value: "text" }\n'
        f"{tokens}    }},\n    {{\n"
        f'      model_name: "{name}"\n      model_version: -1\n{fed}{given}    }}\n  ]\n}}'
    )
    blocks = [
        f'name: "{name}-text"\nplatform: "ensemble"\nmax_batch_size: {MAX_BATCH}',
        _values("input", [("text", "TYPE_STRING", "1")]),
        _values("output", [*_outputs(source), *_mask(source)]),
        steps,
    ]
    return "\n".join(blocks) + "\n"


def _outputs(source: Source) -> list[tuple[str, str, str]]:
    """Outputs without the batch axis, which Triton adds; an axis without a size is -1."""
    return [
        (name, "TYPE_FP32", ", ".join("-1" if isinstance(d, str) else str(d) for d in dims[1:]))
        for name, dims in source.outputs.items()
    ]


def _mask(source: Source) -> list[tuple[str, str, str]]:
    """Which tokens of an ensemble's answer are real, where it is one row a token."""
    by_token = source.reference.reduce != "none" and "attention_mask" in source.inputs
    return [("attention_mask", "TYPE_INT64", "-1")] if by_token else []


def _values(kind: str, values: list[tuple[str, str, str]], labelled: bool = False) -> str:
    more = ' label_filename: "labels.txt"' if labelled else ""
    rows = [f'  {{ name: "{n}" data_type: {t} dims: [ {d} ]{more} }}' for n, t, d in values]
    return f"{kind} [\n" + ",\n".join(rows) + "\n]"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


STACK = Stack(
    name="triton",
    title="Triton, KServe",
    graphs=GRAPHS,
    write=write,
    probe="triton_probe.py",
    packages=("tritonclient[grpc]", "onnxruntime", "tokenizers", "numpy"),
    modules=("tritonclient.grpc", "onnxruntime", "tokenizers", "numpy"),
    real="Triton's own schema (tritonclient), the graph in onnxruntime with the options of "
    "config.pbtxt, the tokenizer model with a stub of the backend's request API",
)
