"""Tokenizers and calibration batches: from names and texts to what `compress` takes."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from benchmarks.tasks import Dataset, class_names, encode_labels, is_unnamed, tokenise
from compress.checkpoint.checkpoint import load, load_config
from compress.checkpoint.stored_plan import BLOCK, stored_plan
from compress.checkpoint.verify import MODELING
from compress.errors import BundleError, CheckpointError, DataError, RecipeError
from compress.files.folder import check_target, verify_own
from compress.files.hub import is_hub_id, split_revision
from compress.model.batches import Batch
from compress.model.pooling import read_pooling
from compress.model.task_head import head_of
from compress_export.console import note
from compress_export.remote import fetch
from compress_export.tokenizers import load_tokenizer, local_folder
from export.graph.inputs import longest_sequence

__all__ = [
    "calibration_batches",
    "check_alone",
    "check_checkpoint_target",
    "check_labels",
    "check_length",
    "find_graph",
    "label2id",
    "label_names",
    "labels_of",
    "load_for",
    "load_tokenizer",
    "local_folder",
    "located",
    "pooling_mode",
    "read_config",
    "take_labels_",
]

CALIBRATION_BATCH = 32


def pooling_mode(model: PreTrainedModel, folder: Path) -> str | None:
    """How an embedding model's folder pools tokens; nothing for other models."""
    pooling = read_pooling(folder) if head_of(model).embeds else None
    return None if pooling is None else pooling.mode


def located(model: str, base: Path) -> str:
    """Where a recipe's model lies: a folder, or what `load` says is wrong with it.

    Args:
        model: A folder, a URL or a Hub id, as the recipe has it. Of a Hub id the files are
            downloaded once, so that one commit serves for all that is read from it.
        base: The folder that paths are taken from.
    """
    if "://" in model:
        return str(fetch(model))
    local = base / model
    if local.exists():
        return str(local)
    return str(local_folder(model)) if is_hub_id(model) else model


def load_for(source: str, dataset: Dataset) -> PreTrainedModel:
    """A checkpoint with a head for a task: its own if it fits, else a new one on its encoder.

    Raises:
        CheckpointError: It cannot be read, or its head is of another kind.
    """
    config = load_config(source)
    names = [] if dataset.regression else list(dataset.label_names) or class_names(dataset.labels)
    n_labels = 1 if dataset.regression else len(names)
    own = (config.architectures or [""])[0].endswith("ForSequenceClassification")
    renewed = False
    if own and config.num_labels == n_labels:
        trained = load(source)
        if _can_read(trained, dataset):
            if names and is_unnamed(label2id(trained)):
                _name_labels(trained, names)
            return trained
        if is_unnamed(label2id(trained)):  # the data names what the head does not
            _name_labels(trained, names)
            return trained
        note(f"the head of {source!r} is for {sorted(label2id(trained))}; a new one is made")
        renewed = True
    if stored_plan(config) is not None and (Path(source) / f"{MODELING}.py").is_file():
        raise CheckpointError(
            f"{source!r} is pruned unevenly, and must have a head for the task's {n_labels} "
            f"label(s), found {(config.architectures or ['none'])[0]} of {config.num_labels}; "
            "fine-tune an unpruned model, or prune one of the task"
        )
    settings: dict[str, Any] = {"num_labels": n_labels}
    if not dataset.regression:
        settings |= {"id2label": dict(enumerate(names))}
        settings |= {"label2id": {name: i for i, name in enumerate(names)}}
    repository, revision = split_revision(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the head is new is what fine-tuning is for
        try:
            model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
                repository,
                revision=revision,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # a head of other labels is replaced
                **settings,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{source!r} must hold an encoder that takes a classification head, found: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error
    if hasattr(model.config, BLOCK):
        delattr(model.config, BLOCK)  # its stock config says it all, and the old head is gone
    if renewed:
        _renew_head_(model)
    model.eval()
    return model


def _can_read(model: PreTrainedModel, dataset: Dataset) -> bool:
    """Whether a model's labels are those of the data, by name or by number."""
    try:
        encode_labels(dataset, label2id(model))
    except DataError:
        if dataset.regression:
            raise  # a number is wrong, and no other head would mend it
        return False
    return True


def _name_labels(model: PreTrainedModel, names: Sequence[str]) -> None:
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: i for i, name in enumerate(names)}


def _renew_head_(model: PreTrainedModel) -> None:
    """Draw the head anew: it was trained for other classes, of which there are as many."""
    fresh = type(model)(model.config).state_dict()
    prefix = f"{model.base_model_prefix}."
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith(prefix):
                parameter.copy_(fresh[name])


def check_checkpoint_target(out: Path, model: str | Path) -> None:
    """Refuse an output folder that is the model's own, or somebody else's.

    Raises:
        RecipeError: It is the model's folder.
        BundleError: It holds something that is no checkpoint of ours.
    """
    if Path(model).resolve() == out.resolve():
        raise RecipeError(f"--out must not be the model itself, found {out}; name another folder")
    check_target(out, "checkpoint")


def check_alone(verb: str) -> None:
    """Refuse to do on several processes what measures this machine.

    Raises:
        RecipeError: Names the verbs that train on several.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        raise RecipeError(
            f"{verb} must run as one process, found {count}; `finetune`, `distill` and `remember` "
            "go under accelerate or torchrun"
        )


def check_length(model: PreTrainedModel, field: str, length: int) -> None:
    """Refuse sequences that are longer than the model's positions.

    Raises:
        DataError: Names the field and the longest sequence.
    """
    longest = longest_sequence(model)
    if longest is not None and length > longest:
        raise DataError(
            f"{field} must be at most {longest}, the model's longest sequence, "
            f"found {length}; lower it"
        )


def calibration_batches(
    dataset: Dataset,
    labels: NDArray[np.float64],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    seed: int = 0,
) -> list[Batch]:
    """Batches of examples of like length, in random order, with labels where there are any.

    At least four of them where there are as many examples: some fit, others judge.
    """
    batches: list[Batch] = []
    size = max(1, min(CALIBRATION_BATCH, len(dataset) // 4))
    for batch in tokenise(dataset.texts, tokenizer, batch_size=size, max_length=max_length):
        tensors = {name: torch.from_numpy(values) for name, values in batch.inputs.items()}
        if len(labels):
            tensors["labels"] = torch.from_numpy(labels[batch.rows])
        batches.append(tensors)
    order = np.random.default_rng(seed).permutation(len(batches))
    return [batches[i] for i in order]


def label2id(model: PreTrainedModel) -> Mapping[str, int]:
    """The model's label names, one entry for a regression.

    Raises:
        DataError: The model is a multi-label classifier.
    """
    _refuse_multi_label(model.config.problem_type)
    return {str(name): int(i) for i, name in (model.config.id2label or {}).items()}


def _refuse_multi_label(problem: Any) -> None:
    if problem == "multi_label_classification":
        raise DataError(
            "the model is a multi-label classifier (problem_type in its config.json), and a task "
            "with one label a text cannot judge it; prune it on texts without labels (--texts)"
        )


def label_names(model: PreTrainedModel) -> tuple[str, ...]:
    """The model's label names in order of their ids; none where they are transformers' own."""
    names = tuple(name for name, _ in sorted(label2id(model).items(), key=lambda item: item[1]))
    made_up = all(name == f"LABEL_{i}" for i, name in enumerate(names))
    return () if made_up else names


def take_labels_(student: PreTrainedModel, names: Sequence[str]) -> None:
    """Give a student that names no labels those of its teacher, whose answers it learns."""
    if names and not label_names(student):
        _name_labels(student, names)


def check_labels(student: tuple[str, ...], teacher: tuple[str, ...]) -> None:
    """Refuse a student whose outputs mean other classes than its teacher's.

    A student that names none takes its teacher's (`take_labels_`); a teacher that names none is
    taken to order its outputs as the student does.

    Raises:
        RecipeError: Both name their labels, and not alike.
    """
    alike = [n.lower() for n in student] == [n.lower() for n in teacher]
    if student and teacher and not alike:
        raise RecipeError(
            f"student and teacher must order their labels alike, found {list(student)} and "
            f"{list(teacher)}; correct id2label, or choose a student of the teacher's task"
        )


def find_graph(
    path: Path, variant: str | None = None, first: Sequence[str] = ("cpu-fp32",)
) -> Path:
    """One graph: a file, a variant folder's, or a bundle's `onnx/<variant>/model.onnx`.

    Args:
        path: What the user named.
        variant: Which one of a bundle; by default the first of `first`, or the only one there is.
        first: Variants to prefer where none is named.

    Raises:
        BundleError: There is no graph, or there are several and none was named, or a file of it
            is not what its bundle's manifest says.
    """
    found = _find_graph(path, variant, first)
    folder = found.parent.resolve()
    if folder.parent.name == "onnx":
        verify_own(folder.parent.parent, f"onnx/{folder.name}/")
    return found


def _find_graph(path: Path, variant: str | None, first: Sequence[str]) -> Path:
    if path.is_file() and path.suffix == ".onnx":
        return path
    if (path / "model.onnx").is_file() and variant in (None, path.name):
        return path / "model.onnx"
    found = sorted((path / "onnx").glob("*/model.onnx"))
    names = [p.parent.name for p in found]
    wanted = variant or next((name for name in first if name in names), None)
    if wanted in names:
        return found[names.index(str(wanted))]
    if len(found) == 1 and variant is None:
        return found[0]
    if not path.exists():
        raise BundleError(f"{str(path)!r} must be a bundle, found nothing there; correct the path")
    wish = f"the variant {variant!r}" if variant else "an ONNX graph"
    if names and variant is None:
        wish = f"a variant among {', '.join(first)}"
    raise BundleError(
        f"{str(path)!r} must hold {wish}, found {names or 'none'}; export the model, or name a "
        "variant with PATH@VARIANT"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` beside a graph.

    Raises:
        BundleError: There is none, or it is not a JSON object.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{folder / 'config.json'} must be readable, found: {error}; export the model again"
        ) from error
    if not isinstance(config, dict):
        raise BundleError(f"{folder / 'config.json'} must be an object, found {config!r:.60}")
    return config


def labels_of(folder: Path) -> dict[str, int]:
    """Label names with their class numbers, of the classifier or regressor in a folder.

    Raises:
        DataError: The model has another head, whose outputs are no labels.
    """
    config = read_config(folder)
    name = (config.get("architectures") or ["none"])[0]
    if not name.endswith("ForSequenceClassification"):
        raise DataError(
            f"accuracy is measured of sequence classifiers and regressors, found {name} in "
            f"{folder}; run the graph on your own data, see the README's `Load the result`"
        )
    _refuse_multi_label(config.get("problem_type"))
    count = int(config.get("num_labels", 2))
    names = config.get("id2label") or {str(i): f"LABEL_{i}" for i in range(count)}
    return {str(name): int(i) for i, name in names.items()}
