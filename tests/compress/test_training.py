"""Training: the loss falls, a killed run comes to the same end, two processes are one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from compress.distillation.gradual import Closing, Gates, GradualSpec
from compress.distillation.learner import Learner
from compress.distillation.objective import Objective
from compress.distillation.teacher_outputs import LiveTeacher
from compress.errors import DataError, TrainingError
from compress.model.binding import bind
from compress.plan.cost import CostModel
from compress.training.sampler import LengthGrouped
from compress.training.spec import TrainSpec
from compress.training.trainer import Held, train_
from tests.families import logits, tiny
from tests.tokenizer import tiny_tokenizer

SPEC = TrainSpec(epochs=2, batch_size=8, learning_rate=5e-3, dropout=0.0, looks=2)


def examples(count: int = 48) -> list[dict[str, Any]]:
    """Texts whose label is whether they begin with one of the first words."""
    generator = np.random.default_rng(0)
    words = [generator.integers(0, 94, 2 + i % 9).tolist() for i in range(count)]
    encoded = tiny_tokenizer()([" ".join(f"w{w}" for w in text) for text in words])
    return [
        {name: encoded[name][i] for name in encoded} | {"labels": int(words[i][0] < 47)}
        for i in range(count)
    ]


def learner(seed: int = 1) -> Learner:
    teacher = tiny("bert")
    objective = Objective(labels=0.5, logits=1.0, hidden=1.0, layers="uniform")
    return Learner(tiny("bert", seed=seed), objective, LiveTeacher(teacher))


def gated() -> tuple[Learner, Gates]:
    """A student that is pruned while it learns."""
    student = tiny("bert", seed=1)
    spec = GradualSpec(share=0.5, cost=CostModel(unit="macs", sequence=12), round_to=4)
    gates = Gates(bind(student), spec)
    objective = Objective(labels=0.5, logits=1.0, hidden=1.0, layers="uniform")
    return Learner(student, objective, LiveTeacher(tiny("bert")), gates=gates), gates


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def test_the_loss_falls_and_its_parts_are_told() -> None:
    module = learner()
    curve = train_(module, tiny_tokenizer(), examples(), SPEC).rows
    told = [row for row in curve if "loss" in row]
    assert told[-1]["loss"] < 0.8 * told[0]["loss"]
    row = told[0]
    parts = 0.5 * row["loss_labels"] + row["loss_logits"] + row["loss_hidden"]
    assert row["loss"] == pytest.approx(parts, rel=1e-3)
    assert not module.training


def test_dropout_is_as_it_was_afterwards() -> None:
    module = learner()
    before = [m.p for m in module.modules() if isinstance(m, nn.Dropout)]
    train_(module, tiny_tokenizer(), examples(), SPEC)
    assert before == [m.p for m in module.modules() if isinstance(m, nn.Dropout)]
    assert max(before) > 0


def answers(module: Learner) -> torch.Tensor:
    """Logits of the student. (A weight without influence, a key's bias, is moved by rounding.)"""
    return logits(module.student)


class Killed(TrainerCallback):
    """Stands for a kill at some step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Fall over."""
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_killed_training_goes_on_to_the_same_end(tmp_path: Path, dropout: float) -> None:
    spec = TrainSpec(epochs=2, batch_size=8, learning_rate=1e-3, dropout=dropout, looks=2)
    whole, broken = learner(), learner()
    expected = train_(whole, tiny_tokenizer(), examples(), spec, folder=tmp_path / "a").rows
    with pytest.raises(KeyboardInterrupt):
        train_(
            broken,
            tiny_tokenizer(),
            examples(),
            spec,
            folder=tmp_path / "b",
            callbacks=[Killed(8)],
        )
    again = learner()
    found = train_(again, tiny_tokenizer(), examples(), spec, folder=tmp_path / "b").rows
    assert [row["step"] for row in found] == [row["step"] for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-5)
    for mine, theirs in zip(weights(again), weights(whole), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_a_torn_checkpoint_is_passed_by(tmp_path: Path) -> None:
    spec = TrainSpec(epochs=2, batch_size=8, learning_rate=1e-3, dropout=0.0, looks=2)
    whole, broken, again = learner(), learner(), learner()
    expected = train_(whole, tiny_tokenizer(), examples(), spec, folder=tmp_path / "a").rows
    with pytest.raises(KeyboardInterrupt):
        train_(
            broken,
            tiny_tokenizer(),
            examples(),
            spec,
            folder=tmp_path / "b",
            callbacks=[Killed(8)],
        )
    torn = tmp_path / "b" / "checkpoint-9"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"torn")
    found = train_(again, tiny_tokenizer(), examples(), spec, folder=tmp_path / "b").rows
    assert found[-1]["loss"] == pytest.approx(expected[-1]["loss"], rel=1e-5)


def test_weights_that_are_tied_are_saved_and_gone_on_with(tmp_path: Path) -> None:
    def tied() -> Learner:
        teacher, student = tiny("bert", head="masked"), tiny("bert", seed=1, head="masked")
        assert student.get_output_embeddings().weight is student.get_input_embeddings().weight
        return Learner(student, Objective(logits=0.0, layers="uniform"), LiveTeacher(teacher))

    rows = [{k: v for k, v in row.items() if k != "labels"} for row in examples()]
    whole, broken, again = tied(), tied(), tied()
    train_(whole, tiny_tokenizer(), rows, SPEC, folder=tmp_path / "a")
    kill: list[TrainerCallback] = [Killed(8)]
    with pytest.raises(KeyboardInterrupt):
        train_(broken, tiny_tokenizer(), rows, SPEC, folder=tmp_path / "b", callbacks=kill)
    train_(again, tiny_tokenizer(), rows, SPEC, folder=tmp_path / "b")
    for mine, theirs in zip(weights(again), weights(whole), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_learned_projections_go_on_too(tmp_path: Path) -> None:
    def wide() -> Learner:
        torch.manual_seed(3)
        objective = Objective(hidden=1.0, layers="uniform")
        return Learner(tiny("bert", hidden_size=16), objective, LiveTeacher(tiny("bert")))

    whole, broken, again = wide(), wide(), wide()
    train_(whole, tiny_tokenizer(), examples(), SPEC, folder=tmp_path / "a")
    kill: list[TrainerCallback] = [Killed(8)]
    with pytest.raises(KeyboardInterrupt):
        train_(broken, tiny_tokenizer(), examples(), SPEC, folder=tmp_path / "b", callbacks=kill)
    train_(again, tiny_tokenizer(), examples(), SPEC, folder=tmp_path / "b")
    for name, value in whole.projections.state_dict().items():
        torch.testing.assert_close(again.projections.state_dict()[name], value)


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DataError, match="the disk is full"):
        train_(learner(), tiny_tokenizer(), examples(), SPEC, folder=tmp_path / "a")


def test_bfloat16_trains() -> None:
    module = learner()
    spec = TrainSpec(epochs=2, batch_size=8, learning_rate=5e-3, precision="bf16")
    rows = [r for r in train_(module, tiny_tokenizer(), examples(), spec).rows if "loss" in r]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert next(module.parameters()).dtype == torch.float32


@pytest.mark.gpu
def test_training_on_a_gpu_brings_everything_back() -> None:
    module = learner()
    rows = train_(module, tiny_tokenizer(), examples(), SPEC).rows
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert next(module.parameters()).device.type == "cpu"


def test_accumulated_batches_are_one_large_one() -> None:
    large, small = learner(), learner()
    whole = TrainSpec(epochs=1, batch_size=8, learning_rate=1e-3, dropout=0.0)
    parts = TrainSpec(epochs=1, batch_size=4, accumulate=2, learning_rate=1e-3, dropout=0.0)
    train_(large, tiny_tokenizer(), examples(), whole)
    train_(small, tiny_tokenizer(), examples(), parts)
    torch.testing.assert_close(answers(small), answers(large), rtol=0, atol=1e-4)


def test_a_loss_that_leaves_the_numbers_is_refused() -> None:
    module = learner()
    with torch.no_grad():
        module.student.classifier.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"must stay finite, found nan at step 0"):
        train_(module, tiny_tokenizer(), examples(), SPEC)


def test_early_stopping_takes_the_best_weights() -> None:
    seen: list[float] = []
    figures = iter([0.5, 0.9, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4])

    def metric(logits: Any, labels: Any) -> float:
        assert len(logits) == len(labels) == 8
        seen.append(next(figures))
        return seen[-1]

    spec = TrainSpec(epochs=4, batch_size=8, learning_rate=1e-3, dropout=0.0, patience=2, looks=1)
    module = learner()
    rows = examples()
    held = Held(examples=rows[:8], metric=metric)
    train_(module, tiny_tokenizer(), rows[8:], spec, held=held)
    assert seen == [0.5, 0.9, 0.1, 0.2]
    assert not list(Path.cwd().glob("checkpoint-*"))
    best = learner()
    early = TrainSpec(epochs=4, batch_size=8, learning_rate=1e-3, dropout=0.0)
    with pytest.raises(KeyboardInterrupt):
        train_(best, tiny_tokenizer(), rows[8:], early, callbacks=[Killed(10)])
    for mine, theirs in zip(weights(module), weights(best), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_tensorboard_is_told_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train_(learner(), tiny_tokenizer(), examples(), SPEC, folder=tmp_path / "out.training")
    events = list((tmp_path / "out.tensorboard").rglob("events.out.tfevents.*"))
    assert events
    assert b"loss_hidden" in events[0].read_bytes()


def test_batches_are_of_like_length_and_hold_everything_once() -> None:
    lengths = np.random.default_rng(0).integers(4, 60, 1000).tolist()
    sampler = LengthGrouped(lengths, 16, seed=0)
    order = list(sampler)
    assert sorted(order) == list(range(1000))
    padded = sum(16 * max(lengths[i] for i in order[s : s + 16]) for s in range(0, 992, 16))
    assert padded < 1.15 * sum(lengths)
    assert order == list(sampler)
    sampler.set_epoch(1)
    assert order != list(sampler)


TWO = """
import sys, torch
from compress.model.binding import bind
from compress.plan.cost import CostModel
from compress.distillation.gradual import Closing
from compress.training.processes import is_main
from compress.training.trainer import train_
from compress.training.spec import TrainSpec
from tests.compress.test_training import answers, examples, gated
from tests.tokenizer import tiny_tokenizer
module, gates = gated()
spec = TrainSpec(epochs=2, batch_size=int(sys.argv[2]), accumulate=int(sys.argv[3]),
                 learning_rate=1e-3, dropout=0.0)
closing = [Closing(gates)]
curve = train_(module, tiny_tokenizer(), examples(), spec, callbacks=closing)
if is_main():
    found = {"answers": answers(module), "rows": curve.rows, "plan": gates.plan.to_json()}
    torch.save(found | {"importance": gates.state()["importance"]}, sys.argv[1])
"""


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_are_one_of_twice_the_batch(tmp_path: Path, accumulate: int) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO, encoding="utf-8")
    root = Path(__file__).parents[2]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launch += ["--master-port", str(29500 + os.getpid() % 2000), str(script)]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    out = tmp_path / "two.pt"
    subprocess.run(
        [*launch, str(out), "4", str(accumulate)],
        check=True,
        env=environment,
        cwd=root,
        capture_output=True,
        timeout=240,
    )
    one, gates = gated()
    spec = TrainSpec(epochs=2, batch_size=8 * accumulate, learning_rate=1e-3, dropout=0.0)
    closing: list[TrainerCallback] = [Closing(gates)]
    rows = train_(one, tiny_tokenizer(), examples(), spec, callbacks=closing).rows
    found = torch.load(out, weights_only=True)
    torch.testing.assert_close(found["answers"], answers(one), rtol=0, atol=1e-4)
    assert found["plan"] == gates.plan.to_json()
    for mine, theirs in zip(gates.state()["importance"], found["importance"], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-2, atol=1e-6)
    assert len(found["rows"]) == len(rows)
    for mine, theirs in zip(rows, found["rows"], strict=True):
        for name in ("loss", "loss_labels", "loss_logits", "loss_hidden"):
            assert mine[name] == pytest.approx(theirs[name], abs=1e-4)
