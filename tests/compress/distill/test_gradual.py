"""Gates that close in training: the schedule, the importance they hear, and the plan they leave."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from compress.distillation.gradual import Closing, Gates, GradualSpec, scheduled_share
from compress.distillation.learner import Learner
from compress.distillation.objective import Objective
from compress.distillation.teacher_outputs import LiveTeacher
from compress.errors import SpecError
from compress.model.binding import bind
from compress.model.masking import masked
from compress.model.surgery import apply_
from compress.plan.cost import CostModel
from compress.training.dropout import dropout_of
from compress.training.spec import TrainSpec
from compress.training.trainer import train_
from tests.compress.test_training import Killed, examples
from tests.families import FAMILIES, batch, logits, tiny
from tests.tokenizer import tiny_tokenizer

COST = CostModel(unit="macs", sequence=12)
SPEC = GradualSpec(share=0.4, cost=COST, round_to=4)
TRAINING = TrainSpec(epochs=4, batch_size=8, learning_rate=1e-3, dropout=0.0, looks=2)


def learner(family: str = "bert", spec: GradualSpec = SPEC) -> tuple[Learner, Gates]:
    teacher, student = tiny(family), tiny(family, seed=1)
    gates = Gates(bind(student), spec)
    objective = Objective(layers="uniform")
    return Learner(student, objective, LiveTeacher(teacher), gates=gates), gates


def test_the_schedule_is_cubic_between_its_ends() -> None:
    spec = GradualSpec(share=0.2, cost=COST, start=0.0, end=1.0)
    assert [scheduled_share(spec, t) for t in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.3, 0.2])


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_left_in_the_end_is_what_the_gates_let_through(family: str) -> None:
    module, gates = learner(family)
    with dropout_of(module, 0.0):
        module.train()(**batch())
    gates.update()
    gates.close(1.0)
    student = module.student.eval()
    share = gates.plan.student_shape
    assert COST.total(share) <= 0.4 * COST.total(gates.plan.shape)
    with gates.standing(bind(student)):
        open_only = logits(student)
    with masked(bind(student), gates.plan):
        torch.testing.assert_close(open_only, logits(student), rtol=1e-5, atol=1e-5)
    apply_(student, gates.plan)
    torch.testing.assert_close(logits(student), open_only, rtol=1e-4, atol=1e-5)


def test_importance_is_the_size_of_a_batchs_weight_times_gradient() -> None:
    module, gates = learner("bert")
    student, data = module.student, batch()
    with dropout_of(module, 0.0):
        found = module.train()(**data)
    gates.update()
    student.zero_grad()
    learned = Objective(hidden=0.0)
    alone = Learner(student, learned, LiveTeacher(tiny("bert")))
    with dropout_of(alone, 0.0):
        alone.train()(**data)["loss"].backward()
    weight, _ = bind(student).layers[1].ffn.projection
    slot = bind(student).layers[1].ffn.slots[-1].weight
    assert weight is not None
    assert slot.grad is not None
    expected = (weight * slot.grad).sum(0).abs()
    importance = gates.state()["importance"][bind(student).shape.n_layers + 1]
    torch.testing.assert_close(
        importance.float(), (1 - SPEC.smoothing) * expected.detach(), rtol=1e-3, atol=1e-9
    )
    assert float(importance.max()) > 1e-6
    assert set(found["parts"]) == {"logits", "hidden"}


def test_a_head_counts_all_of_its_features_whatever_their_signs() -> None:
    gates = learner("bert")[1]
    shape = gates.plan.shape
    state = gates.state()
    for importance in state["importance"]:
        importance.zero_()
    state["importance"][0][: shape.head_width] = 2.0
    gates.restore_(state)
    (first, *others) = gates.scores().heads[0]
    queries_and_keys = 2
    regular = math.tanh(1 / SPEC.regularisation)
    assert first == pytest.approx(queries_and_keys * 2.0 * shape.head_width * regular)
    assert not any(others)


def test_training_prunes_to_the_share_and_a_killed_one_goes_on(tmp_path: Path) -> None:
    whole, gates = learner()
    told: list[str] = []
    train_(
        whole,
        tiny_tokenizer(),
        examples(),
        TRAINING,
        folder=tmp_path / "a",
        callbacks=[Closing(gates, told.append)],
    )
    assert "are too few for a student" in told[0]
    assert COST.total(gates.plan.student_shape) <= 0.4 * COST.total(gates.plan.shape)
    broken, others = learner()
    kill: list[TrainerCallback] = [Closing(others), Killed(8)]  # within the schedule
    with pytest.raises(KeyboardInterrupt):
        train_(
            broken,
            tiny_tokenizer(),
            examples(),
            TRAINING,
            folder=tmp_path / "b",
            callbacks=kill,
        )
    again, restored = learner()
    train_(
        again,
        tiny_tokenizer(),
        examples(),
        TRAINING,
        folder=tmp_path / "b",
        callbacks=[Closing(restored)],
    )
    assert restored.plan == gates.plan
    for mine, theirs in zip(
        restored.state()["importance"], gates.state()["importance"], strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-9)
    for model, plan in ((whole.student, gates.plan), (again.student, restored.plan)):
        apply_(model, plan)
    torch.testing.assert_close(logits(again.student), logits(whole.student), rtol=1e-4, atol=1e-5)


def test_importance_of_accumulated_batches_is_that_of_a_large_one() -> None:
    found = []
    for spec in (
        replace(TRAINING, epochs=1),
        replace(TRAINING, epochs=1, batch_size=4, accumulate=2),
    ):
        module, gates = learner()
        train_(module, tiny_tokenizer(), examples(), spec, callbacks=[Closing(gates)])
        found.append(torch.cat(gates.state()["importance"]))
    torch.testing.assert_close(*found, rtol=1e-2, atol=1e-6)


def test_heads_of_small_attention_sublayers_count_less() -> None:
    gates = learner("bert")[1]
    state = gates.state()
    state["importance"] = [torch.ones_like(i) for i in state["importance"]]
    state["gates"][0][: -gates.plan.shape.head_width] = 0.0  # the first layer has one head left
    gates.restore_(state)
    first, second = (float(heads[-1]) for heads in gates.scores().heads[:2])
    left = 1 / gates.plan.shape.n_heads[0]
    expected = math.tanh(left / SPEC.regularisation) / math.tanh(1 / SPEC.regularisation)
    assert first / second == pytest.approx(expected)


@pytest.mark.parametrize(
    "change", [{"share": 1.5}, {"share": 0.0}, {"start": 0.5, "end": 0.2}, {"end": 1.2}]
)
def test_gates_that_cannot_close_so_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(SpecError):
        GradualSpec(**({"share": 0.5, "cost": COST} | change))  # type: ignore[arg-type]
