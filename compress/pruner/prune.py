"""One call from a model to a student of a share of its cost."""

from __future__ import annotations

from transformers import PreTrainedModel

from compress.errors import SpecError
from compress.model.batches import Batches, Progress, silent
from compress.model.binding import bind
from compress.plan.cost import CostModel
from compress.pruner.pruner import PrunedModel, Pruner
from compress.pruner.spec import PruneSpec

__all__ = ["prune"]


def prune(
    model: PreTrainedModel,
    batches: Batches,
    target_ratio: float,
    spec: PruneSpec | None = None,
    *,
    cost: CostModel | None = None,
    progress: Progress = silent,
) -> PrunedModel:
    """Prune a copy of a model to a share of its encoder's cost.

    Args:
        model: A fine-tuned encoder of a supported family. It is left as it is.
        batches: Calibration data, a few hundred to a few thousand sequences, see
            `compress.calibration_batches`. Labels are read by scores of given labels alone.
        target_ratio: What the student may cost, as a share of the model's encoder; above 0, at
            most 1.
        spec: How to prune. Default: structured OBS with repair and search.
        cost: What is counted. Default: multiply-accumulates at 128 tokens.
        progress: Called as `progress(label, done, total)`.

    Returns:
        The student on the device of `model`.

    Raises:
        SpecError: `target_ratio` is out of its range.
        BudgetError: The ratio cannot be reached; the message names the smallest that can.
        DataError: There is too little calibration data.
        UnsupportedArchitectureError, LayoutError: The model is of no supported shape.
        CheckpointError: The model's outputs are not finite on the calibration data.

    Example:
        >>> import torch
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        ...                     intermediate_size=64, vocab_size=99)
        >>> model = BertForSequenceClassification(config).eval()
        >>> tokens = torch.arange(5, 1029).remainder(94).add(5).view(4, 16, 16)
        >>> batches = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in tokens]
        >>> half = prune(model, batches, 0.5, PruneSpec(round_to=8))
        >>> half.cost <= 0.5 * CostModel(unit="macs").total(half.plan.shape)
        True
    """
    if not isinstance(target_ratio, int | float) or not 0 < target_ratio <= 1:
        raise SpecError(
            f"prune: target_ratio {target_ratio!r} is not a number above 0 and at most 1; 0.5 "
            "keeps half of the encoder's cost"
        )
    prices = (cost or CostModel(unit="macs")).prices(bind(model).shape)
    pruner = Pruner(model, batches, prices, spec, progress)
    return pruner.prune_to(target_ratio * pruner.dense_cost)
