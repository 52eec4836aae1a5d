"""Fine-tune an encoder with transformers' own `Trainer`. Knows tokenised examples, no tasks."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from compress.batches import Progress, silent

__all__ = ["finetune_"]


def finetune_(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Mapping[str, Any]],
    *,
    epochs: int,
    learning_rate: float = 5e-5,
    batch_size: int = 32,
    seed: int = 0,
    progress: Progress = silent,
) -> None:
    """Train `model`, in place, with AdamW, weight decay 0.01 and a linear schedule.

    Args:
        model: With a task head; left in evaluation mode on the CPU.
        tokenizer: Pads the batches.
        examples: `input_ids` and `labels` each.
        epochs: Passes over the examples.
        learning_rate: At its peak, after 6 % of the steps.
        batch_size: Examples a step.
        seed: Of order and dropout.
        progress: Told after every step.
    """
    steps = epochs * -(-len(examples) // batch_size)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=0.01,
            warmup_steps=round(0.06 * steps),
            seed=seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=list(examples),
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[_Told(progress)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    model.to("cpu").eval()  # type: ignore[arg-type]


class _Told(TrainerCallback):
    """Passes each step on to our progress callback."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell how many steps are through."""
        self._progress("fine-tuning", state.global_step, state.max_steps)
