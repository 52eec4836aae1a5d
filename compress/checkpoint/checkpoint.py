"""Pruned checkpoints on disk: safetensors, a config that carries the plan, three ways to load.

| plan | `from_pretrained` | with `trust_remote_code=True` | `compress.load` |
|---|---|---|---|
| layers dropped only, or one FFN width | yes | yes | yes |
| one head count for all layers, in families whose config names the head width | yes | yes | yes |
| heads pruned otherwise, or uneven widths | no | yes | yes |
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from compress.architectures import architecture_for
from compress.checkpoint.stored_plan import (
    BLOCK,
    describe_,
    model_class,
    restore_,
    skeleton,
    stored_plan,
    whole_plan,
)
from compress.checkpoint.tokenizer import save_tokenizer
from compress.checkpoint.verify import compare_models, verify_stock
from compress.errors import CheckpointError
from compress.files.folder import verify_own, writing
from compress.files.hub import is_hub_id, snapshot, split_revision
from compress.model.pooling import Pooling, write_pooling
from compress.plan.plan import Plan
from compress.plan.stock_config import expressible_in_config

__all__ = ["INDEX", "WEIGHTS", "load", "load_config", "save"]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def load(source: str | Path) -> PreTrainedModel:
    """Load a stock or a pruned encoder in float32, in evaluation mode.

    Args:
        source: A folder, or a Hub id where no such folder exists; `org/name@revision` names a
            branch, a tag or a commit. No code of the checkpoint is run: a pruned one is rebuilt by
            replaying its plan.

    Returns:
        The model, of the class that `config.architectures` names.

    Raises:
        CheckpointError: The folder is missing, unreadable or holds pickled weights only, or a
            weight is not finite.
        UnsupportedArchitectureError: The family has no record.
    """
    verify_own(Path(source))
    config = load_config(source)
    architecture_for(config.model_type)
    plan = stored_plan(config)
    model = _load_stock(source, config) if plan is None else _replay(_local(source), config, plan)
    _check_finite(model, source)
    model.eval()
    return model


def load_config(source: str | Path) -> PreTrainedConfig:
    """Read and check a checkpoint's config, before any weight.

    Raises:
        CheckpointError: See `load`.
    """
    folder = Path(source)
    if not folder.is_dir() and str(source).endswith("@"):
        raise CheckpointError(
            f"{str(source)!r} must name a revision after the @, found none; add a branch, tag or "
            "commit, or leave the @ out"
        )
    if folder.is_dir():
        _check_folder(folder)
    elif folder.exists() or not is_hub_id(str(source)):
        raise CheckpointError(
            f"model must be a checkpoint folder or a Hub id, found {str(source)!r}, which is "
            "neither; check the path"
        )
    repository, revision = split_revision(str(source))
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            repository, revision=revision, trust_remote_code=False
        )
    except Exception as error:  # each part of transformers raises kinds of its own
        if folder.is_dir() or not isinstance(error, OSError):
            told = f"config.json of {str(source)!r} must be readable by transformers, found: "
            raise CheckpointError(f"{told}{_one_line(error)}") from error
        raise CheckpointError(
            f"model must be a checkpoint folder or a Hub id, found {str(source)!r}, which is no "
            f"folder here and which the Hub does not give ({_one_line(error)}); check it"
        ) from error
    quantised = getattr(config, "quantization_config", None)
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise CheckpointError(
            f"{str(source)!r} holds quantised weights ({method}), which cannot be pruned or "
            "exported; name the checkpoint in float32, float16 or bfloat16 that it was made from"
        )
    return config


def save(
    model: PreTrainedModel,
    plan: Plan,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase | None = None,
    notes: Mapping[str, str] | None = None,
    pooling: Pooling | None = None,
) -> None:
    """Write a pruned model: safetensors, config with the plan, remote code where it is needed.

    Args:
        model: The model that `plan` gave. An older plan of a pruned checkpoint is joined.
        plan: The plan for the model before the surgery.
        folder: Appears when it is complete.
        tokenizer: Saved beside the weights.
        notes: Further text files, by name.
        pooling: How an embedding model's tokens become one vector, written as
            sentence-transformers does.

    Raises:
        VerificationError: Loaded again in a way that is promised, it gives other outputs; nothing
            is left behind.
    """
    whole = whole_plan(model.config, plan)
    config = model.config
    previous = {name: getattr(config, name, None) for name in (BLOCK, "auto_map", "architectures")}
    with writing(folder, "checkpoint") as temporary:
        try:
            describe_(config, model, whole, temporary)
            model.save_pretrained(temporary, save_original_format=False)
        finally:
            restore_(config, previous)
        whole.save(temporary / "plan.json")
        if tokenizer is not None:
            save_tokenizer(tokenizer, temporary)
        if pooling is not None:
            write_pooling(pooling, config.hidden_size, temporary)
        for name, text in (notes or {}).items():
            (temporary / name).write_text(text, encoding="utf-8")
        saved = model if model.dtype == torch.float32 else copy.deepcopy(model).float()
        compare_models("compress.load", load(temporary), saved)
        verify_stock(temporary, saved)


def _load_stock(source: str | Path, config: PreTrainedConfig) -> PreTrainedModel:
    try:
        model, report = _read_stock(source, config)
        missing = sorted(report["missing_keys"])
        if missing and _is_bare(source, config, report):
            bare: Any = MODEL_MAPPING[type(config)]
            config.architectures = [bare.__name__]
            model, report = _read_stock(source, config)
            missing = sorted(report["missing_keys"])
        if missing and all(name.startswith("pooler.") for name in missing):
            model, report = _read_stock(source, config, add_pooling_layer=False)
            missing = sorted(report["missing_keys"])
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"the weights of {str(source)!r} must load into {(config.architectures or ['?'])[0]}, "
            f"found: {_one_line(error)}; copy them again, if they were cut short"
        ) from error
    _check_report(source, config, report)
    if missing:
        raise CheckpointError(
            f"{str(source)!r} must hold every weight of {type(model).__name__}, found none for "
            f"{missing[0]!r} and {len(missing) - 1} more; fine-tune the model first"
        )
    return model


def _is_bare(source: str | Path, config: PreTrainedConfig, report: dict[str, Any]) -> bool:
    """Whether a sentence encoder's config names a head that its weights do not hold.

    all-mpnet-base-v2 says `MPNetForMaskedLM`, as the model that it was trained from was.
    """
    prefix = f"{model_class(config).base_model_prefix}."
    headless = all(not name.startswith(prefix) for name in report["missing_keys"])
    return headless and (_local(source) / "modules.json").is_file()


def _read_stock(
    source: str | Path, config: PreTrainedConfig, **arguments: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model, and transformers' report of what did not fit."""
    repository, revision = split_revision(str(source))
    model, report = model_class(config).from_pretrained(
        repository,
        revision=revision,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused by name below
        **arguments,
    )
    return model, report


def _check_report(source: str | Path, config: PreTrainedConfig, report: dict[str, Any]) -> None:
    """Refuse weights of another shape than the config's, and layers that it does not count."""
    wrapped = next((n for n in report["unexpected_keys"] if n.startswith("module.")), None)
    if wrapped is not None:
        raise CheckpointError(
            f"{str(source)!r} holds the weight {wrapped!r}, as DataParallel names them; save "
            "model.module in place of model"
        )
    for name, found, expected in sorted(report["mismatched_keys"]):
        raise CheckpointError(
            f"tensor {name!r} of {str(source)!r} must have the shape {tuple(expected)}, which "
            f"config.json asks for, found {tuple(found)}; correct config.json"
        )
    layers, _, _ = architecture_for(config.model_type).layers.partition(".*.")
    for name in sorted(report["unexpected_keys"]):
        if f".{layers}." in f".{name}":
            raise CheckpointError(
                f"{str(source)!r} must hold the layers that config.json counts, "
                f"{config.num_hidden_layers}, found the weight {name!r} of none of them; correct "
                "config.json"
            )


def _replay(folder: Path, config: PreTrainedConfig, plan: Plan) -> PreTrainedModel:
    """Build the pruned shape, and load the weights into it."""
    architecture = architecture_for(config.model_type)
    for name, value in expressible_in_config(architecture, plan.student_shape).items():
        if getattr(config, name, value) != value:
            raise CheckpointError(
                f"config.{name} of {str(folder)!r} must be {value}, as its plan says, found "
                f"{getattr(config, name)}; restore config.json"
            )
    model = skeleton(config)
    try:
        state = _weights(folder)
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder / WEIGHTS} must fit the plan in config.json, found: {_one_line(error)}"
        ) from error
    model.tie_weights()
    tied = set(getattr(model, "all_tied_weights_keys", {}) or {})
    if unexpected or set(missing) - tied:
        raise CheckpointError(
            f"{folder / WEIGHTS} must hold just the plan's weights, found "
            f"{sorted(set(missing) - tied)[:2]} missing and {unexpected[:2]} unexpected"
        )
    return model


def _weights(folder: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint, of one file or of several."""
    if (folder / WEIGHTS).is_file():
        return load_file(folder / WEIGHTS)
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    files = sorted(set(index["weight_map"].values()))
    return {name: value for file in files for name, value in load_file(folder / file).items()}


def _check_folder(folder: Path) -> None:
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        raise CheckpointError(
            f"{folder} holds an adapter ({adapter.name}), which would be ignored; merge it into "
            "the model (peft: merge_and_unload) and save that"
        )
    old = folder / "modules.json", folder.parent / "modules.json"
    layered = old[0].is_file() and (folder / "0_Transformer").is_dir()
    if layered or (folder.name == "0_Transformer" and old[1].is_file()):
        raise CheckpointError(
            f"{str(folder)!r} is of sentence-transformers' older layout, with the encoder in "
            "0_Transformer and what happens to its vectors beside it; load the whole folder with "
            "SentenceTransformer and save it again"
        )
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"model folder {str(folder)!r} must hold config.json, found none; "
            "save the model with save_pretrained"
        )
    if (folder / WEIGHTS).is_file() or (folder / INDEX).is_file():
        return
    pickles = sorted(p.name for p in folder.glob("*.bin")) + sorted(
        p.name for p in folder.glob("*.pt")
    )
    if pickles:
        raise CheckpointError(
            f"model folder {str(folder)!r} must hold {WEIGHTS}, found only the pickle "
            f"{pickles[0]!r}, which could run code; convert it with "
            "save_pretrained(safe_serialization=True)"
        )
    others = sorted(p.name for p in folder.glob("*.safetensors"))
    found = f"only {', '.join(others[:3])}; rename one" if others else "no weights; copy them there"
    raise CheckpointError(f"model folder {str(folder)!r} must hold {WEIGHTS}, found {found}")


def _check_finite(model: PreTrainedModel, source: str | Path) -> None:
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            kind = "NaN" if bool(torch.isnan(tensor).any()) else "Inf"
            raise CheckpointError(
                f"tensor {name!r} of {str(source)!r} must be finite, found {kind}; "
                "repair or retrain the checkpoint"
            )


def _local(source: str | Path) -> Path:
    """The folder itself, or where the Hub's files of that id have been put."""
    try:
        return snapshot(source)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint {str(source)!r} must be on the Hub, found: {_one_line(error)}"
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
