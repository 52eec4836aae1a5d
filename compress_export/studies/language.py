"""`study mlm-head` and `study mlm-pretrain`: encoders that can be asked about masked tokens.

An encoder that comes without the head of its pre-training gets one, itself untouched; and small
encoders of any family are pre-trained here, which says what a method does on learnt weights and
nothing about the large models of those families.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure as Canvas
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from benchmarks.environment import environment
from benchmarks.report.drawing import KEPT, STYLE, TEACHER, svg
from benchmarks.report.findings import Claim, Figure, Findings, Table, write_findings
from compress.architectures import ARCHITECTURES
from compress.checkpoint.checkpoint import load, load_config
from compress.checkpoint.stored_plan import stored_plan
from compress.checkpoint.tokenizer import save_tokenizer
from compress.distillation.identity import fingerprint
from compress.errors import CheckpointError, RecipeError
from compress.files.folder import writing
from compress.files.hub import split_revision
from compress.model.batches import Batches, Progress, frozen
from compress.training.masked_language import IGNORED, MaskedLanguageLearner
from compress.training.spec import TrainSpec
from compress.training.trainer import TrainingHistory, train_
from compress_export.language import Block, blocks_of, held_out, masked_batches, masking, read_lines
from compress_export.learning import own_training
from compress_export.loading import check_length, load_tokenizer
from compress_export.stages import content_key

__all__ = ["LanguageSpec", "has_masked_head", "masked_loss", "pretrain", "spec_of", "train_head"]

_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_CHECKPOINT = "checkpoint"
FAMILIES = tuple(architecture.model_type for architecture in ARCHITECTURES)


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageSpec:
    """What to read, and for how long.

    Attributes:
        texts: A text file, or a folder of `.txt` files.
        max_length: Tokens of a block.
        blocks: At most; all if left out.
        spec: Of the training.
    """

    texts: Path
    max_length: int
    blocks: int | None
    spec: TrainSpec


def spec_of(texts: Path, max_length: int, blocks: int | None, **training: Any) -> LanguageSpec:
    """What options ask for; `training` as `TrainSpec` takes it."""
    spec = TrainSpec(dropout=0.0, report_to=(), **training)
    return LanguageSpec(texts=texts, max_length=max_length, blocks=blocks, spec=spec)


def train_head(model: str, spec: LanguageSpec, out: Path, progress: Progress) -> dict[str, float]:
    """Give an encoder a head for masked tokens and train that alone, its embeddings tied.

    Args:
        model: An encoder's checkpoint; a task head of it is left aside.
        spec: Text and training.
        out: Folder of the study; the model is its `checkpoint`.
        progress: Told after every step.

    Returns:
        `before`, `after` and `unigram`: mean losses on held-out blocks, in nats a masked token.

    Raises:
        CheckpointError: The family has no such head.
    """
    config, tokenizer = load_config(model), load_tokenizer(model)
    if not has_masked_head(config.model_type):
        raise CheckpointError(
            f"{config.model_type} has no head for masked language modelling in transformers; study "
            "its heads by tasks alone (`study heads` without --texts)"
        )
    if stored_plan(config) is not None:
        raise CheckpointError(
            f"study mlm-head must be given an encoder in stock shapes, found a pruned one in "
            f"{model!r}; write it in stock shapes first (`compress-export expand`)"
        )
    check_length(load(model), "--max-length", spec.max_length)
    torch.manual_seed(spec.spec.seed)
    repository, revision = split_revision(model)
    whole: PreTrainedModel = AutoModelForMaskedLM.from_pretrained(
        repository,
        revision=revision,
        dtype=torch.float32,
        tie_word_embeddings=True,
        use_safetensors=True,
    )
    return _learn(whole, tokenizer, spec, out, f"A masked-language head for {model}", progress)


def pretrain(
    family: str,
    settings: dict[str, Any],
    tokenizer: str | int,
    spec: LanguageSpec,
    out: Path,
    progress: Progress,
) -> dict[str, float]:
    """Pre-train a small encoder of a family by masked language modelling, from random weights.

    Args:
        family: A `model_type` of transformers.
        settings: Of its config, such as `hidden_size`.
        tokenizer: A folder or file of one; or how many tokens a byte-level BPE shall be trained to.
        spec: Text and training.
        out: Folder of the study; the model is its `checkpoint`.
        progress: Told after every step.

    Returns:
        As `train_head`.

    Raises:
        RecipeError: The family has no such head, or its config does not take the settings.
    """
    if not has_masked_head(family):
        raise RecipeError(
            f"--family must be a supported one with a head for masked tokens, found {family!r}; "
            f"choose among {', '.join(n for n in FAMILIES if has_masked_head(n))}"
        )
    made = _tokenizer(tokenizer, family, spec)
    ids = {
        f"{name}_token_id": getattr(made, f"{name}_token_id")
        for name in ("pad", "bos", "eos", "cls", "sep", "mask")
    }
    ids = {name: value for name, value in ids.items() if value is not None}
    given = {"vocab_size": len(made), "max_position_embeddings": spec.max_length + 2}
    try:
        torch.manual_seed(spec.spec.seed)
        config = AutoConfig.for_model(family, **(given | ids | settings))
        model: PreTrainedModel = AutoModelForMaskedLM.from_config(config)
    except Exception as error:  # each config checks in its own way
        raise RecipeError(
            f"--set must fit the config of {family}, found {settings}: "
            f"{' '.join(str(error).split())[:200]}; correct it"
        ) from error
    title = f"A small {family}, pre-trained here"
    return _learn(model, made, spec, out, title, progress, encoder=True)


def has_masked_head(family: str) -> bool:
    """Whether a family was pre-trained by masked tokens, and can be told to do so again."""
    return family in FAMILIES and family in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def masked_loss(model: PreTrainedModel, batches: Batches) -> float:
    """Mean loss of the masked tokens, in nats."""
    learner = MaskedLanguageLearner(model, encoder=True)
    total = count = 0.0
    with frozen(model), torch.no_grad():
        for batch in batches:
            masked = int((batch["labels"] != IGNORED).sum())
            total += float(learner(**batch)["loss"]) * masked
            count += masked
    return total / max(count, 1)


def _learn(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    spec: LanguageSpec,
    out: Path,
    title: str,
    progress: Progress,
    *,
    encoder: bool = False,
) -> dict[str, float]:
    blocks = blocks_of(read_lines(spec.texts), tokenizer, spec.max_length)
    learnt, held = held_out(blocks)
    learnt = learnt[: spec.blocks]
    judge = masked_batches(held, tokenizer, 8, 0)
    before = masked_loss(model, judge)
    learner = MaskedLanguageLearner(model, encoder=encoder)
    text = hashlib.sha256(json.dumps(learnt).encode()).hexdigest()
    spec_key = {"spec": asdict(spec.spec), "model": fingerprint(model), "text": text}
    own_training(out / "training", content_key(spec_key | {"encoder": encoder}))
    curve = train_(
        learner,
        tokenizer,
        learnt,
        spec.spec,
        collate=masking(tokenizer),
        folder=out / "training",
        progress=progress,
    )
    model.requires_grad_(True)
    figures = {"before": before, "after": masked_loss(model, judge)}
    figures |= {"unigram": _unigram(learnt, judge), "blocks": float(len(learnt))}
    _write(model, tokenizer, spec, title, curve, figures, out)
    shutil.rmtree(out / "training", ignore_errors=True)
    return figures


def _unigram(blocks: Sequence[Block], judge: Batches) -> float:
    """The loss of who knows how often each token occurs, and nothing else (add-one)."""
    counts: dict[int, int] = {}
    for block in blocks:
        for token in block["input_ids"]:
            counts[token] = counts.get(token, 0) + 1
    total = sum(counts.values()) + len(counts) + 1
    labels = torch.cat([b["labels"][b["labels"] != IGNORED] for b in judge]).tolist()
    return -sum(math.log((counts.get(t, 0) + 1) / total) for t in labels) / max(len(labels), 1)


def _write(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    spec: LanguageSpec,
    title: str,
    curve: TrainingHistory,
    figures: dict[str, float],
    out: Path,
) -> None:
    notes = {"spec": asdict(spec.spec), "figures": figures, "curve": curve.rows}
    with writing(out / _CHECKPOINT, "checkpoint") as folder:
        model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)
        (folder / "training.json").write_text(json.dumps(notes, indent=1), encoding="utf-8")
    better = figures["after"] < figures["unigram"]
    claim = Claim(
        source="What a head must do to be of use",
        says="It predicts masked tokens better than their frequencies do.",
        found=f"{figures['after']:.3f} nats a masked token on held-out blocks, "
        f"{figures['unigram']:.3f} by frequencies alone, {figures['before']:.3f} before training.",
        verdict="held" if better else "failed",
    )
    findings = Findings(
        study=_study_of(out),
        title=title,
        facts={
            "text": str(spec.texts),
            "blocks": f"{figures['blocks']:.0f} of {spec.max_length} tokens",
            "training": f"{spec.spec.epochs} epochs, batch {spec.spec.batch_size}, "
            f"learning rate {spec.spec.learning_rate:g}, seed {spec.spec.seed}",
        },
        claims=[claim],
        tables=[Table(name="curve", title="loss by step", rows=curve.rows)],
        figures=[Figure(name="loss", caption="loss while training", svg=_draw(curve, figures))],
        limits=[
            "Trained at home on a few megabytes of text: figures on it are about a method on "
            "learnt weights, and not about the family's published models."
        ],
    )
    write_findings(findings, environment(), out)


def _study_of(out: Path) -> str:
    return str(json.loads((out / "study.json").read_text(encoding="utf-8"))["study"])


def _draw(curve: TrainingHistory, figures: dict[str, float]) -> str:
    rows = [row for row in curve.rows if "loss" in row]
    with mpl.rc_context(STYLE):
        figure = Canvas(figsize=(7.4, 3.2))
        axes = figure.subplots()
        axes.plot([r["step"] for r in rows], [r["loss"] for r in rows], color=KEPT, linewidth=1.6)
        axes.axhline(figures["unigram"], color=TEACHER, linewidth=1, linestyle="--")
        axes.annotate("token frequencies alone", (0, figures["unigram"]), fontsize=9, va="bottom")
        axes.set_xlabel("step")
        axes.set_ylabel("nats a masked token")
        return svg(figure)


def _tokenizer(given: str | int, family: str, spec: LanguageSpec) -> PreTrainedTokenizerBase:
    if isinstance(given, int):
        return _byte_pairs(given, spec)
    path = Path(given)
    return _sentence_pieces(path, family) if path.suffix == ".model" else load_tokenizer(given)


def _sentence_pieces(path: Path, family: str) -> PreTrainedTokenizerBase:
    """The family's own tokenizer of a SentencePiece model.

    Raises:
        RecipeError: There is none, or the package that reads it is missing.
    """
    try:
        import sentencepiece  # noqa: F401

        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(path, Path(folder) / "spiece.model")
            config = json.dumps({"model_type": family})
            (Path(folder) / "config.json").write_text(config, encoding="utf-8")
            return load_tokenizer(folder)
    except ImportError as error:
        raise RecipeError(
            f"--tokenizer {str(path)!r} is a SentencePiece model, and the package that reads it is "
            "missing; run `pip install 'sentencepiece<0.2.2'`, or name a folder with tokenizer.json"
        ) from error
    except (OSError, CheckpointError) as error:
        raise RecipeError(
            f"--tokenizer must be a readable SentencePiece model, found: "
            f"{' '.join(str(error).split())[:200]}; correct it (if it is one: sentencepiece from "
            "0.2.2 on wants a newer protobuf than many have, 'sentencepiece<0.2.2' reads it)"
        ) from error


def _byte_pairs(size: int, spec: LanguageSpec) -> PreTrainedTokenizerBase:
    """A byte-level BPE of the text itself, with RoBERTa's special tokens."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizerFast

    trained = ByteLevelBPETokenizer(add_prefix_space=True)
    trained.train_from_iterator(
        read_lines(spec.texts), vocab_size=size, special_tokens=list(_SPECIALS), show_progress=False
    )
    made: PreTrainedTokenizerBase = RobertaTokenizerFast(
        tokenizer_object=trained._tokenizer, add_prefix_space=True
    )
    return made
