"""How time and memory grow: random weights of real shapes, each step in a process of its own.

python benchmarks/results/growth.py OUT [steps=STEP,…] [SHAPE…]

Writes `OUT/growth.json` (steps that are in it already are not done again) and draws it to
`OUT/growth.svg`. Steps are `score and cut`, `export` and `load`, or what `steps=` names: `obs`
(one step of structured OBS), `allocate` and `targets` too. A shape is a name in `SHAPES`;
`@tokens=N`, `@layers=N` and `@targets=N` behind it change calibration tokens, depth and, for
`targets`, how many students one pruner gives. Memory is the largest resident set of the process,
pages of mapped files included.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.results.growth_drawn import by_parameters, draw
from benchmarks.results.growth_shapes import BATCH, SEQUENCE, SHAPES, changed, known, settings

STEPS = ("score and cut", "export", "load")


def main(out: str, *words: str) -> None:
    """Do each step of each shape once."""
    if unknown := [w for w in words if not w.startswith("steps=") and not known(w)]:
        sys.exit(f"a shape is one of {', '.join(SHAPES)}, then @NAME=N, found {unknown[0]!r}")
    named = [word.removeprefix("steps=").split(",") for word in words if word.startswith("steps=")]
    steps = [step for steps in named for step in steps] or list(STEPS)
    shapes = [word for word in words if not word.startswith("steps=")]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "growth.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else []
    for shape in shapes or tuple(SHAPES):
        for step in steps:
            if any((row["shape"], row["step"]) == (shape, step) for row in rows):
                continue
            teacher = folder / shape.replace("@", "-")
            if not teacher.is_dir():
                child("make", shape, teacher)
            made = {"shape": shape, "step": step, "parameters": parameters(teacher)}
            row = made | child(step, shape, teacher)
            rows.append(row)
            sys.stdout.write(f"{json.dumps(row)}\n")
            sys.stdout.flush()
            file.write_text(json.dumps(rows, indent=1))
        shutil.rmtree(folder / shape.replace("@", "-"), ignore_errors=True)
    berts = [row for row in rows if SHAPES[row["shape"].split("@")[0]]["model_type"] == "bert"]
    if by_parameters(berts, "seconds"):
        (folder / "growth.svg").write_text(draw(berts), encoding="utf-8")


def parameters(folder: Path) -> int:
    """Of a checkpoint in float32."""
    return sum(p.stat().st_size for p in folder.glob("*.safetensors")) // 4


def child(step: str, shape: str, folder: Path) -> dict[str, Any]:
    """Do one step in a process of its own."""
    command = [sys.executable, __file__, "--step", step, shape, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def step_here(step: str, shape: str, folder: str) -> None:
    """Do one step, and print what it took."""
    start = time.perf_counter()
    facts = DO[step](shape, Path(folder))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    facts = {"seconds": round(seconds, 2), "peak_mib": round(peak)} | facts
    sys.stdout.write(f"{json.dumps(facts)}\n")


def make(shape: str, folder: Path) -> dict[str, Any]:
    """A checkpoint of random weights, written a tensor at a time, with a tokenizer."""
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

    from compress.streamed.shards import Shards
    from tests.tokenizer import tiny_tokenizer

    config = AutoConfig.for_model(**settings(shape)[0], num_labels=2)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForSequenceClassification.from_config(config)
    folder.mkdir(parents=True)
    config.architectures, config.dtype = [type(model).__name__], torch.float32
    config.save_pretrained(folder)
    tokenizer: PreTrainedTokenizerFast = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shards, part, held = Shards(folder), {}, 0
    for name, tensor in model.state_dict().items():
        value = torch.empty(tensor.shape).normal_(0, 0.02)
        if name.endswith("LayerNorm.weight"):
            value += 1
        part[name], held = value, held + value.nbytes
        if held > 2**28:
            shards.add(part)
            part, held = {}, 0
    shards.add(part)
    shards.close()
    return {}


def batches(shape: str, vocabulary: int) -> list[dict[str, Any]]:
    """Random tokens."""
    import torch

    generator = torch.Generator().manual_seed(0)
    count = settings(shape)[1] // (SEQUENCE * BATCH)
    ids = torch.randint(5, vocabulary, (count, BATCH, SEQUENCE), generator=generator)
    return [{"input_ids": part, "attention_mask": torch.ones_like(part)} for part in ids]


def score_and_cut(shape: str, folder: Path) -> dict[str, Any]:
    """Fisher scores, planning, surgery, repair and writing, streamed; half of the MACs stay."""
    from compress.pruner.spec import PruneSpec

    start, marks = time.perf_counter(), {}

    def progress(label: str, done: int, total: int) -> None:
        marks[label] = round(time.perf_counter() - start, 2)

    student = halved(shape, folder, PruneSpec(steps=1, score="fisher"), progress)
    size = sum(p.stat().st_size for p in student.glob("*.safetensors"))
    whole = sum(p.stat().st_size for p in folder.glob("*.safetensors"))
    shutil.rmtree(student)
    return {"until": marks, "teacher_mib": whole >> 20, "student_mib": size >> 20}


def obs(shape: str, folder: Path) -> dict[str, Any]:
    """One step of structured OBS, streamed: statistics, orders, plan, repair, writing."""
    from compress.model.batches import silent
    from compress.pruner.spec import PruneSpec

    shutil.rmtree(halved(shape, folder, PruneSpec(steps=1), silent))
    return {}


def halved(shape: str, folder: Path, spec: Any, progress: Any) -> Path:
    """The folder of a student with half of the MACs, pruned in files."""
    from compress.checkpoint.checkpoint import load_config
    from compress.plan.cost import CostModel
    from compress.pruner.pruner import Pruner
    from compress.streamed import InFiles

    student = folder.with_name(f"{folder.name}-student")
    examples = batches(shape, load_config(folder).vocab_size)
    with InFiles(folder, student, scratch=folder.parent) as files:
        prices = CostModel(unit="macs", sequence=SEQUENCE).prices(files.teacher.shape)
        pruner = Pruner(files, examples, prices, spec, progress)
        pruner.prune_to(0.5 * pruner.dense_cost)
    return student


def allocate(shape: str, folder: Path) -> dict[str, Any]:
    """The plan alone, of made-up harms: dynamic programming over every layer's sizes."""
    import numpy as np

    from compress.model.binding import bind
    from compress.plan.cost import CostModel
    from compress.pruner.spec import PruneSpec
    from compress.saliency.obs import Removal
    from compress.search.options import encoder_options
    from compress.search.plan_search import Problem, plan_within
    from compress.streamed import load_mapped

    layout = bind(load_mapped(folder))
    prices = CostModel(unit="macs", sequence=SEQUENCE).prices(layout.shape)
    generator = np.random.default_rng(0)

    def order(index: int, sublayer: str) -> Removal:
        sizes = layout.shape.n_heads if sublayer == "attention" else layout.shape.ffn_widths
        count = sizes[index]
        loss_increase = np.cumsum(np.sort(generator.exponential(size=count)))
        return Removal(
            order=generator.permutation(count), loss_increase=np.concatenate([[0.0], loss_increase])
        )

    start = time.perf_counter()
    options = encoder_options(layout.shape, order, units=PruneSpec().removable, round_to=16)
    budget = 0.5 * prices.total(layout.shape)
    problem = Problem(shape=layout.shape, options=options, prices=prices, budget=budget)
    plan_within(problem, {})
    return {"allocation_seconds": round(time.perf_counter() - start, 2)}


def targets(shape: str, folder: Path) -> dict[str, Any]:
    """Students down to a quarter of the MACs, by one pruner with structured OBS."""
    from compress.checkpoint.checkpoint import load as load_model
    from compress.checkpoint.checkpoint import load_config
    from compress.model.binding import bind
    from compress.plan.cost import CostModel
    from compress.pruner.pruner import Pruner

    model = load_model(folder)
    encoder = bind(model).shape
    prices = CostModel(unit="macs", sequence=SEQUENCE).prices(encoder)
    pruner = Pruner(model, batches(shape, load_config(folder).vocab_size), prices)
    count = changed(shape, "targets", 1)
    for place in range(1, count + 1):
        pruner.prune_to(pruner.dense_cost * 0.25 ** (place / count))
    return {"targets": count}


def export(shape: str, folder: Path) -> dict[str, Any]:
    """The portable variant from a mapped model."""
    from compress.streamed import load_mapped
    from export.exporter import export_graphs
    from export.precision.variants import variant

    out = graph_of(folder).parent
    out.mkdir(exist_ok=True)
    names = ("input_ids", "attention_mask")
    export_graphs(load_mapped(folder), names, [variant("portable")], [graph_of(folder)])
    return {"sizes_mib": {p.name: p.stat().st_size >> 20 for p in out.iterdir()}}


def load(shape: str, folder: Path) -> dict[str, Any]:
    """One run of the graph in ONNX Runtime."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = onnxruntime.InferenceSession(
        graph_of(folder), options, providers=["CPUExecutionProvider"]
    )
    ids = np.ones((1, 16), np.int64) * 7
    (logits,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    shutil.rmtree(graph_of(folder).parent)
    return {"finite": bool(np.isfinite(logits).all())}


def graph_of(folder: Path) -> Path:
    """Where a checkpoint's graph goes."""
    return folder.with_name(f"{folder.name}-onnx") / "model.onnx"


DO: dict[str, Callable[[str, Path], dict[str, Any]]] = {
    "make": make,
    "score and cut": score_and_cut,
    "export": export,
    "load": load,
    "obs": obs,
    "allocate": allocate,
    "targets": targets,
}

if __name__ == "__main__":
    if sys.argv[1] == "--step":
        step_here(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
