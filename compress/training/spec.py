"""How to train, as one record that checks itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compress.validation import above, at_least, share, validate

__all__ = ["TrainPrecision", "TrainSpec"]

TrainPrecision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSpec:
    """How to train: AdamW, weight decay, a linear schedule.

    Attributes:
        epochs: Passes over the examples.
        learning_rate: At its peak.
        batch_size: Examples a process and step.
        accumulate: Steps whose gradients make one update.
        warmup: Share of the updates on which the learning rate rises.
        weight_decay: Weight decay of all parameters but biases and norms.
        precision: Precision of matrix products; weights stay in float32.
        dropout: Dropout of the student while it trains. Default: its config's.
        patience: Looks at the held examples without a gain after which to stop, and the best
            weights are taken; none by default.
        looks: At the held examples, an epoch.
        gradient_checkpointing: Compute activations again in the backward pass, and keep none.
        seed: Seed of the order, of dropout and of new projections.
        report_to: As in `TrainingArguments`. Default: TensorBoard where it is installed.
    """

    epochs: int = 2
    learning_rate: float = 5e-5
    batch_size: int = 32
    accumulate: int = 1
    warmup: float = 0.06
    weight_decay: float = 0.01
    precision: TrainPrecision = "fp32"
    dropout: float | None = None
    patience: int | None = None
    looks: int = 4
    gradient_checkpointing: bool = False
    seed: int = 0
    report_to: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        validate(
            self,
            epochs=at_least(0),
            learning_rate=above(0),
            batch_size=at_least(1),
            accumulate=at_least(1),
            warmup=share(zero=True),
            weight_decay=at_least(0),
            dropout=share(zero=True, one=False),
            patience=at_least(1),
            looks=at_least(1),
        )
