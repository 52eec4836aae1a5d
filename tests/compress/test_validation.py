"""Records of options refuse wrong words and numbers when they are made, and say what they take."""

from __future__ import annotations

from typing import Any

import pytest

from compress.distill.cache_spec import CacheSpec
from compress.distill.gradual import GradualSpec
from compress.distill.objective import Objective
from compress.errors import DataError, SpecError
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
from compress.pruner.prune import PruneSpec, prune
from compress.pruner.walk import FamilySpec
from compress.saliency.gradient import GradientScore
from compress.training.spec import TrainSpec
from tests.families import batch, tiny

COST = CostModel(unit="macs")
DESCENT = Descent(steps=10)
HALF: dict[str, Any] = {"share": 0.5}


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (PruneSpec, HALF | {"layout": "unifrom"}, r"PruneSpec\.layout: .*did you mean 'uniform'"),
        (PruneSpec, HALF | {"score": "fischer"}, r"PruneSpec\.score: .*did you mean 'fisher'"),
        (PruneSpec, HALF | {"steps": 0}, r"PruneSpec\.steps: 0 is not at least 1"),
        (PruneSpec, HALF | {"units": ("head",)}, r"PruneSpec\.units: .*did you mean 'heads'"),
        (PruneSpec, HALF | {"units": "heads"}, r"PruneSpec\.units: 'heads' is not a tuple of"),
        (PruneSpec, HALF | {"strategy": "middle"}, r"PruneSpec\.strategy: 'middle' is not one"),
        (PruneSpec, HALF | {"damping": 0.0}, r"PruneSpec\.damping: 0\.0 is not above 0"),
        (PruneSpec, {"share": 1.5}, r"PruneSpec\.share: 1\.5 is not above 0 and at most 1"),
        (PruneSpec, {"share": "half"}, r"PruneSpec\.share: 'half' is not a number"),
        (FamilySpec, {"ranking": "ob"}, r"FamilySpec\.ranking: .*did you mean 'obs'"),
        (FamilySpec, {"steps": 0}, r"FamilySpec\.steps: 0"),
        (FamilySpec, {"ranking": "kprune", "units": ("layers",)}, "'layers' goes with"),
        (GradientScore, {"power": 3}, r"GradientScore\.power: 3 is not one of 1, 2"),
        (GradientScore, {"labels": "sample"}, r"GradientScore\.labels: .*mean 'sampled'"),
        (CostModel, {"unit": "flops"}, r"CostModel\.unit: 'flops' is not one of 'macs', 'para"),
        (Workload, {"batch": 0, "sequence": 8}, r"Workload\.batch: 0 is not at least 1"),
        (Pooling, {"mode": "avg"}, r"Pooling\.mode: 'avg' is not one of"),
        (TrainSpec, {"precision": "fp8"}, r"TrainSpec\.precision: 'fp8' is not one of"),
        (TrainSpec, {"epochs": -1}, r"TrainSpec\.epochs: -1 is not at least 0"),
        (CacheSpec, {"tokens": "random"}, r"CacheSpec\.tokens: 'random' is not one of"),
        (CacheSpec, {"width": 0}, r"CacheSpec\.width: 0 is not above 0 and at most 1"),
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
        prune(tiny("bert"), few, PruneSpec(share=0.5, multiple=4))


def test_a_score_that_reads_labels_says_so() -> None:
    unlabelled = [{k: v for k, v in batch(rows=16, length=12).items() if k != "labels"}]
    with pytest.raises(DataError, match="no 'labels'"):
        prune(tiny("bert"), unlabelled, PruneSpec(share=0.5, score="michel", multiple=4))
