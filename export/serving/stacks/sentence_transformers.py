"""sentence-transformers: torch's weights at the top, graphs in `onnx/`, modules and pooling."""

from __future__ import annotations

import json
from pathlib import Path

from compress.model.pooling import LIMITS, write_pooling
from export.precision.variants import VariantName
from export.serving.stack import (
    Precision,
    Source,
    Stack,
    copy,
    place_graph,
    place_guide,
    place_tokenizer,
    write_json,
)
from export.serving.stacks import optimum
from export.serving.subject import Subject

__all__ = ["STACK", "place_pooling"]

GRAPHS: dict[Precision, tuple[str, VariantName]] = {
    "fp32": ("onnx/model.onnx", "cpu-fp32"),
    "int8": ("onnx/model_quantized.onnx", "cpu-int8"),
    "fp16": ("onnx/model_fp16.onnx", "cuda-fp16"),
}


def write(source: Source, folder: Path, precisions: tuple[Precision, ...]) -> None:
    """What `SentenceTransformer(folder, backend=…)` looks for."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.checkpoint.iterdir()):
        if path.suffix == ".safetensors" or path.name.endswith((".index.json", ".py")):
            copy(path, folder / path.name)
    copy(source.checkpoint / "config.json", folder / "config.json")
    place_tokenizer(source, folder)
    for precision in precisions:
        where, variant = GRAPHS[precision]
        place_graph(source, variant, folder / where)
    place_pooling(source, folder)
    place_guide(folder, "sentence_transformers.md", GRAPH=GRAPHS[precisions[0]][0])
    # The first of these files that is there is the only one that is read.
    settings = next((folder / n for n in LIMITS if (folder / n).is_file()), folder / LIMITS[0])
    said = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    write_json(settings, said | {"max_seq_length": source.max_length})


def place_pooling(source: Source, folder: Path) -> None:
    """`modules.json` and `1_Pooling/`: the folder's own way to pool, or the mean over tokens."""
    write_pooling(source.pools, source.reference.features, folder)


def refuses(subject: Subject) -> str | None:
    """A classifier's logits are no sentence vector."""
    return None if subject.embeds else "a model with a head gives no sentence vectors"


STACK = Stack(
    name="sentence-transformers",
    title="sentence-transformers",
    graphs=GRAPHS,
    default_precisions=("fp32", "int8"),
    write=write,
    cuts_left=True,
    reads_settings=True,
    own_tokenizer=True,
    probe="sentence_transformers_probe.py",
    packages=optimum.STACK.packages,
    modules=("sentence_transformers", "optimum.onnxruntime"),
    real="sentence-transformers with transformers 4.57, torch and ONNX backends",
    refuses=refuses,
)
