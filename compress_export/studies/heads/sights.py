"""Models under a loss, and how they are judged while heads are masked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from benchmarks.significance import ratio, retention_interval
from benchmarks.tasks import METRICS, encode_labels, predictions
from compress.checkpoint.checkpoint import load
from compress.errors import CheckpointError
from compress.model.batches import Batches
from compress_export.language import blocks_of, held_out, masked_batches, read_lines
from compress_export.loading import label2id, load_tokenizer
from compress_export.studies.language import masked_loss
from compress_export.studies.schools import Lessons, TaskData

__all__ = ["Sight", "TaskJudge", "Text", "TextJudge"]

_BATCH = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """Running text.

    Attributes:
        path: A file, or a folder of `.txt` files.
        length: Tokens of a block.
        count: Blocks to look at.
    """

    path: str
    length: int
    count: int

    def batches(self, source: str, seed: int, *, judging: bool = False) -> Batches:
        """Blocks with masked tokens; to judge by, those that `mlm-head` holds out of this text."""
        tokenizer = load_tokenizer(source)
        blocks = blocks_of(read_lines(Path(self.path)), tokenizer, self.length)
        learnt, held = held_out(blocks)
        order = np.random.default_rng(seed).permutation(len(learnt)).tolist()
        part = held if judging else [learnt[i] for i in order]
        return masked_batches(part[: self.count], tokenizer, _BATCH, seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """A model under a loss.

    Attributes:
        source: Checkpoint, with the head that the loss needs.
        lessons: The task, where the loss is one.
        text: Where the loss is of masked tokens.
        encoder: A checkpoint whose encoder takes the place of the source's own.
    """

    source: str
    lessons: Lessons | None = None
    text: Text | None = None
    encoder: str | None = None

    def model(self) -> PreTrainedModel:
        """The live model."""
        model = load(self.source)
        if self.encoder is not None:
            own = load(self.encoder).base_model.state_dict()
            mine = model.base_model.state_dict()
            missing = [name for name in mine if name not in own]
            if missing:
                raise CheckpointError(
                    f"{self.encoder!r} must be {self.source!r} fine-tuned, found no {missing[0]}; "
                    "name another --teacher"
                )
            model.base_model.load_state_dict({name: own[name] for name in mine})
        return model

    def batches(self, model: PreTrainedModel, count: int, seed: int) -> Batches:
        """To score by."""
        if self.text is not None:
            return self.text.batches(self.source, seed)
        assert self.lessons is not None  # a sight has one of the two
        return TaskData(self.lessons).batches(model, self.source, count, seed)

    def files(self) -> tuple[str, ...]:
        """What is read."""
        text = None if self.text is None else self.text.path
        data = () if self.lessons is None else self.lessons.files()
        return (*(path for path in (self.source, self.encoder, text) if path), *data)


class TaskJudge:
    """The task's metric, and what is kept of the unmasked model's."""

    def __init__(self, sight: Sight, model: PreTrainedModel) -> None:
        assert sight.lessons is not None  # its caller has looked
        self._source, self._data = sight.source, TaskData(sight.lessons)
        self._labels = encode_labels(self._data.validation, label2id(model))
        self._whole = self._predicted(model)

    def __call__(self, model: PreTrainedModel, *, whole: bool) -> dict[str, float]:
        """`metric`, `retention`, `low` and `high`; of the unmasked model, what is known."""
        found = self._whole if whole else self._predicted(model)
        metric = self._data.metric
        before, value = (METRICS[metric](self._labels, p) for p in (self._whole, found))
        low, high = retention_interval(metric, self._labels, self._whole, [found])
        return {"metric": value, "retention": ratio(before, value), "low": low, "high": high}

    def _predicted(self, model: PreTrainedModel) -> NDArray[np.float64]:
        return predictions(self._data.logits(model, self._source))


class TextJudge:
    """The loss of masked tokens on blocks that no score has looked at."""

    def __init__(self, sight: Sight) -> None:
        assert sight.text is not None  # its caller has looked
        self._batches = sight.text.batches(sight.source, 0, judging=True)

    def __call__(self, model: PreTrainedModel, *, whole: bool) -> dict[str, float]:
        """`metric`: nats a masked token."""
        return {"metric": masked_loss(model, self._batches)}
