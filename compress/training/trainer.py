"""Train with transformers' own `Trainer`: resumable, on one process or several.

What is learnt is the module's own business: its `forward` takes a batch and gives a loss, its
parts, and logits. Knows tokenised examples, no tasks.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from compress.errors import DataError, TrainingError
from compress.model.batches import Progress, silent
from compress.training.dropout import dropout_of
from compress.training.processes import this_worker
from compress.training.recompute import recomputed
from compress.training.resuming import Marked, newest_whole
from compress.training.sampler import LengthGrouped
from compress.training.sharding import is_sharded, unsharded
from compress.training.spec import TrainSpec
from compress.training.trackers import tensorboard_beside, trackers

__all__ = [
    "Examples",
    "Held",
    "TrainingHistory",
    "train_",
]

Examples: TypeAlias = Sequence[Mapping[str, Any]]
"""`input_ids` and what else the tokenizer gives; `labels` where the loss needs them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """Examples that training does not see, to stop it early.

    Attributes:
        examples: Labelled examples.
        metric: From logits `(examples, n_labels)` and labels `(examples,)` to the figure that
            should rise.
    """

    examples: Examples
    metric: Callable[[NDArray[np.float64], NDArray[np.float64]], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingHistory:
    """What training told on its way: rows of `step`, `epoch`, `loss`, its parts, the metric."""

    rows: list[dict[str, float]]


def train_(
    module: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    spec: TrainSpec,
    *,
    held: Held | None = None,
    collate: Callable[[list[Any]], dict[str, Tensor]] | None = None,
    folder: Path | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    progress: Progress = silent,
) -> TrainingHistory:
    """Train `module`, in place.

    Args:
        module: Its `forward(**batch)` gives `loss`, and may give `parts` and `logits`.
        tokenizer: Pads the batches.
        examples: Training examples.
        spec: How.
        held: Held-out examples that early stopping looks at.
        collate: Makes a batch. Default: the tokenizer pads it.
        folder: Where checkpoints go, so that a killed training goes on from the last; a folder
            that holds some is gone on from. Left out, there are none, and no tracker is told.
        callbacks: Further ones, as `Trainer` takes them.
        progress: Called after every step.

    Returns:
        The curve; the module is in evaluation mode, on the CPU.

    Raises:
        TrainingError: The loss is no longer finite.
    """
    with (
        dropout_of(module, spec.dropout),
        recomputed(module, spec.gradient_checkpointing),
        unsharded(module, spec.precision) as trained,
        tensorboard_beside(folder),
        tempfile.TemporaryDirectory() as temporary,
    ):
        home = Path(temporary) if folder is None else folder
        trainer = Training(
            module=trained,
            tokenizer=tokenizer,
            examples=examples,
            spec=spec,
            held=held,
            collate=collate,
            home=home,
            saves=folder is not None,
            callbacks=callbacks,
            progress=progress,
        )
        _train(trainer, newest_whole(home))
    module.to("cpu").eval()
    return TrainingHistory(rows=_rows(trainer.state.log_history))


class Training(Trainer):
    """`Trainer`, with batches of like length, the loss's parts in its log, and a finite loss."""

    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *,
        module: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        examples: Examples,
        spec: TrainSpec,
        held: Held | None,
        collate: Callable[[list[Any]], dict[str, Tensor]] | None,
        home: Path,
        saves: bool,
        callbacks: Sequence[TrainerCallback],
        progress: Progress,
    ) -> None:
        self._spec, self._examples = spec, examples
        self._parts: dict[str, list[float]] = defaultdict(list)
        watching: list[TrainerCallback] = [_Told(progress)]
        if held is not None and spec.patience is not None:
            watching.append(EarlyStoppingCallback(spec.patience))
        super().__init__(
            model=module,
            args=_arguments(spec, home, len(examples), saves=saves, held=held),
            train_dataset=examples,
            eval_dataset=None if held is None else held.examples,
            data_collator=collate or DataCollatorWithPadding(tokenizer),
            compute_metrics=None if held is None else _metric(held),
            callbacks=[*watching, *callbacks, Marked()],
        )
        self.remove_callback(PrinterCallback)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The module's loss; told apart by its parts, and refused when it is not finite."""
        with self._autocast():
            output = model(**inputs)
        loss = output["loss"]
        if not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"the loss must stay finite, found {float(loss.detach())} at step "
                f"{self.state.global_step}; lower the learning rate, or look at the data"
            )
        for name, value in (output.get("parts") or {}).items():
            self._parts[name].append(float(value))
        return (loss, {"logits": output["logits"]}) if return_outputs else loss

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None
    ) -> None:
        assert self.model is not None  # given
        if not isinstance(self.model, PreTrainedModel):
            state_dict = _untied(self.model.state_dict() if state_dict is None else state_dict)
        super()._save(output_dir, state_dict)

    def _autocast(self) -> AbstractContextManager[object]:
        """What `accelerate` does but under FSDP, where it makes norms and sums narrow too."""
        if not is_sharded() or self._spec.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.args.device.type, dtype=torch.bfloat16)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of the loss's parts since the last time, over all processes."""
        if "loss" in logs:
            means = torch.tensor([np.mean(v) for v in self._parts.values()], dtype=torch.float32)
            means = self.accelerator.reduce(means.to(self.args.device), reduction="mean")
            names = [f"loss_{name}" for name in self._parts]
            logs |= dict(zip(names, means.tolist(), strict=True))
            self._parts.clear()
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGrouped:
        chunk = self.args.train_batch_size * self.args.gradient_accumulation_steps
        lengths = [len(example["input_ids"]) for example in self._examples]
        return LengthGrouped(lengths, chunk * self.args.world_size, self._spec.seed)


class _Told(TrainerCallback):
    """Passes each step on to our progress callback."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell how many steps are through."""
        self._progress("training", state.global_step, state.max_steps)


def _untied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with a tensor of its own for every name: safetensors refuses shared ones."""
    seen: set[int] = set()
    found = {}
    for name, value in state.items():
        shared = value.data_ptr() in seen
        seen.add(value.data_ptr())
        found[name] = value.clone() if shared else value
    return found


def _train(trainer: Training, last: Path | None) -> None:
    try:
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    except RuntimeError as error:
        if "PytorchStreamWriter" in str(error) or "inline_container" in str(error):
            raise DataError(
                "a checkpoint of the training could not be written, the disk is full; free some "
                "space and run the command again, it goes on from the last whole one"
            ) from error
        raise


def _arguments(
    spec: TrainSpec, home: Path, n_examples: int, *, saves: bool, held: Held | None
) -> TrainingArguments:
    cuda = torch.cuda.is_available()
    at_once = spec.batch_size * spec.accumulate * this_worker().count
    steps = max(1, math.ceil(n_examples / at_once))
    every = max(1, steps // spec.looks)
    stops = held is not None and spec.patience is not None
    arguments = TrainingArguments(
        output_dir=str(home),
        num_train_epochs=spec.epochs,
        per_device_train_batch_size=spec.batch_size,
        per_device_eval_batch_size=4 * spec.batch_size,
        gradient_accumulation_steps=spec.accumulate,
        learning_rate=spec.learning_rate,
        weight_decay=spec.weight_decay,
        warmup_steps=spec.warmup,
        bf16=spec.precision == "bf16" and not is_sharded(),
        fp16=spec.precision == "fp16",
        use_cpu=not cuda,
        seed=spec.seed,
        eval_strategy="steps" if held is not None else "no",
        eval_steps=every,
        save_strategy="steps" if saves or stops else "no",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=stops,
        metric_for_best_model="metric" if stops else None,
        logging_steps=max(1, spec.epochs * steps // 100),
        report_to=trackers(spec.report_to) if saves else [],
        disable_tqdm=True,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        label_names=["labels"],
        ddp_find_unused_parameters=True,
        restore_callback_states_from_checkpoint=stops,
    )
    if arguments.n_gpu > 1:  # several GPUs are for several processes
        arguments._n_gpu = 1
    return arguments


def _metric(held: Held) -> Callable[[Any], dict[str, float]]:
    def found(prediction: Any) -> dict[str, float]:
        return {"metric": held.metric(prediction.predictions, prediction.label_ids)}

    return found


def _rows(history: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The log's rows, one a step, with the names that the report uses."""
    found: dict[int, dict[str, float]] = {}
    for entry in history:
        row = found.setdefault(int(entry["step"]), {"step": float(entry["step"])})
        for name, value in entry.items():
            told = name in ("epoch", "loss", "learning_rate") or name.startswith("loss_")
            if told or name == "eval_metric":
                row[name.removeprefix("eval_")] = float(value)
    return [row for _, row in sorted(found.items()) if {"loss", "metric"} & row.keys()]
