"""Records of options refuse wrong words and numbers when they are made, and say what they take."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from compress.distillation.cache_spec import CacheSpec
from compress.distillation.gradual import GradualSpec
from compress.distillation.objective import Objective
from compress.errors import DataError, SpecError, ToolchainError
from compress.learned import (
    AdaptSpec,
    Descent,
    HardConcreteSpec,
    MaskSpec,
    MovementSpec,
    SubsetSpec,
)
from compress.model.pooling import Pooling
from compress.plan.cost import CostModel
from compress.plan.workload import Workload
from compress.pruner.prune import prune
from compress.pruner.pruner import Pruner
from compress.pruner.spec import PruneSpec
from compress.saliency.gradient import GradientScore
from compress.training.spec import TrainSpec
from tests.families import batch, tiny

COST = CostModel(unit="macs")
DESCENT = Descent(steps=10)
HALF: dict[str, Any] = {"share": 0.5}


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (PruneSpec, {"layout": "unifrom"}, r"PruneSpec\.layout: .*did you mean 'uniform'"),
        (PruneSpec, {"score": "fischer"}, r"PruneSpec\.score: .*did you mean 'fisher'"),
        (PruneSpec, {"steps": 0}, r"PruneSpec\.steps: 0 is not at least 1"),
        (PruneSpec, {"units": ("head",)}, r"PruneSpec\.units: .*did you mean 'heads'"),
        (PruneSpec, {"units": "heads"}, r"PruneSpec\.units: 'heads' is not a tuple of"),
        (PruneSpec, {"strategy": "middle"}, r"PruneSpec\.strategy: 'middle' is not one"),
        (PruneSpec, {"damping": 0.0}, r"PruneSpec\.damping: 0\.0 is not above 0"),
        (PruneSpec, {"held_out": 1.0}, r"PruneSpec\.held_out: 1\.0 is not at least 0 and below 1"),
        (PruneSpec, {"held_out": "all"}, r"PruneSpec\.held_out: 'all' is not a number"),
        (PruneSpec, {"steps": 2.5}, r"PruneSpec\.steps: 2\.5 is not a whole number"),
        (PruneSpec, {"steps": True}, r"PruneSpec\.steps: True is not a number"),
        (PruneSpec, {"seed": None}, r"PruneSpec\.seed: None is not a number"),
        (PruneSpec, {"repair": "maybe"}, r"PruneSpec\.repair: 'maybe' is not True or False"),
        (PruneSpec, {"damping": float("inf")}, r"PruneSpec\.damping: inf is not above 0"),
        (PruneSpec, {"score": "ob"}, r"PruneSpec\.score: .*did you mean 'obs'"),
        (PruneSpec, {"score": "kprune", "units": ("layers",)}, "'layers' needs score 'obs'"),
        (PruneSpec, {"score": "kprune", "layout": "uniform"}, "plans all layers at once"),
        (PruneSpec, {"score": "kprune", "trials": 2}, r"PruneSpec\.trials: .*found 2"),
        (GradientScore, {"power": 3}, r"GradientScore\.power: 3 is not one of 1, 2"),
        (GradientScore, {"labels": "sample"}, r"GradientScore\.labels: .*mean 'sampled'"),
        (CostModel, {"unit": "flops"}, r"CostModel\.unit: 'flops' is not one of 'macs', 'para"),
        (Workload, {"batch": 0, "sequence": 8}, r"Workload\.batch: 0 is not at least 1"),
        (Pooling, {"mode": "avg"}, r"Pooling\.mode: 'avg' is not one of"),
        (TrainSpec, {"precision": "fp8"}, r"TrainSpec\.precision: 'fp8' is not one of"),
        (TrainSpec, {"epochs": -1}, r"TrainSpec\.epochs: -1 is not at least 0"),
        (CacheSpec, {"tokens": "random"}, r"CacheSpec\.tokens: 'random' is not one of"),
        (
            CacheSpec,
            {"feature_fraction": 0},
            r"CacheSpec\.feature_fraction: 0 is not above 0 and at most 1",
        ),
        (Objective, {"hidden": -1}, r"Objective\.hidden: -1 is not at least 0"),
        (Objective, {"logits": 0, "hidden": 0}, "all weights are 0"),
        (
            GradualSpec,
            {"share": 1, "cost": COST},
            r"GradualSpec\.share: 1 is not above 0 and below",
        ),
        (GradualSpec, HALF | {"cost": COST, "start": 0.5}, r"0\.5 is not below end"),
        (MaskSpec, {"steps": 0}, r"MaskSpec\.steps: 0"),
        (HardConcreteSpec, {"share": 0, "cost": COST}, r"HardConcreteSpec\.share: 0 is not"),
        (MovementSpec, HALF | {"cost": COST, "units": ("x",)}, r"MovementSpec\.units: 'x'"),
        (AdaptSpec, {"share": 2, "cost": COST, "descent": DESCENT}, r"Spec\.share: 2"),
        (SubsetSpec, {"n_heads": 0}, r"SubsetSpec\.n_heads: 0 is not at least 1"),
    ],
)
def test_a_wrong_option_is_named_with_what_it_takes(
    kind: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        kind(**options)


def test_four_tokens_are_too_few_to_fit_a_repair_on() -> None:
    few = [{k: v[:1, :4] for k, v in batch().items() if k != "labels"}]
    with pytest.raises(DataError, match="calibration needs 82 tokens"):
        prune(tiny("bert"), few, 0.5, PruneSpec(round_to=4, held_out=0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, 0.5), "batches must be a sequence of mappings"),
        ((["a text"], 0.5), r"found \['a text'\]; `calibration_batches` makes them"),
        (([{"input_ids": torch.ones(2, 3)}], 0.5), "'input_ids' and 'attention_mask'"),
        (([batch(), batch()], "half"), "target_ratio 'half' is not a number"),
        (([batch(), batch()], 0.5, "fisher"), "spec: 'fisher' is not a PruneSpec"),
    ],
)
def test_arguments_of_other_types_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ToolchainError, match=message):
        prune(tiny("bert"), *arguments)


def test_a_cost_model_is_no_prices() -> None:
    with pytest.raises(SpecError, match="prices: CostModel is not Prices"):
        Pruner(tiny("bert"), [batch(), batch()], COST)  # type: ignore[arg-type]


def test_a_score_that_reads_labels_says_so() -> None:
    unlabelled = [{k: v for k, v in batch(rows=16, length=12).items() if k != "labels"}]
    with pytest.raises(DataError, match="no 'labels'"):
        prune(tiny("bert"), unlabelled, 0.5, PruneSpec(score="michel", held_out=0, round_to=4))
