"""Training past one device comes to the end that one device comes to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState

from compress.distillation.cache_spec import CacheSpec
from compress.distillation.learner import Learner
from compress.distillation.objective import Objective
from compress.distillation.teacher_outputs import LiveTeacher
from compress.errors import RecipeError, UnsupportedArchitectureError
from compress.training.spec import TrainSpec
from compress.training.trainer import train_
from tests.compress.distill.test_learner import examples as store_examples
from tests.compress.distill.test_learner import stored
from tests.compress.test_training import answers, examples, learner
from tests.families import batch, tiny
from tests.tokenizer import tiny_tokenizer

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys, torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback
from compress.training.processes import is_main
from compress.training.trainer import train_
from compress.training.spec import TrainSpec
from tests.compress.test_training import answers, examples, learner
from tests.tokenizer import tiny_tokenizer

plain = AcceleratorState.__init__
def on_cpu_too(self, *args, fsdp_plugin=None, **settings):
    plain(self, *args, fsdp_plugin=fsdp_plugin, **settings)
    if fsdp_plugin is not None:  # accelerate shards on accelerators alone
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
AcceleratorState.__init__ = on_cpu_too

class Seen(TrainerCallback):
    sharded = 0
    def on_step_begin(self, args, state, control, model=None, **_):
        Seen.sharded = sum(isinstance(p, DTensor) for p in model.parameters())
    def on_step_end(self, args, state, control, **_):
        if state.global_step == int(sys.argv[3]):
            raise KeyboardInterrupt

module = learner()
spec = TrainSpec(epochs=2, batch_size=4, learning_rate=1e-3, dropout=0.0, looks=2)
curve = train_(module, tiny_tokenizer(), examples(), spec, callbacks=[Seen()],
               folder=__import__("pathlib").Path(sys.argv[2]))
if is_main():
    found = {"answers": answers(module), "rows": curve.rows, "sharded": Seen.sharded}
    torch.save(found, sys.argv[1])
"""


def launch(config: str, script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Two processes, by a configuration that we ship."""
    port = 29500 + os.getpid() % 2000
    command = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", port]
    command += ["--config_file", ROOT / "recipes" / "accelerate" / f"{config}.yaml"]
    return subprocess.run(
        [str(part) for part in (*command, script, *arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("config", ["ddp", "fsdp"])
def test_what_we_ship_trains_two_processes_as_one(config: str, tmp_path: Path) -> None:
    script, out = tmp_path / "two.py", tmp_path / "two.pt"
    script.write_text(SCRIPT, encoding="utf-8")
    killed = launch(config, script, out, tmp_path / "home", 8)
    assert killed.returncode != 0
    assert [p.name for p in (tmp_path / "home").glob("checkpoint-*")], killed.stderr
    done = launch(config, script, out, tmp_path / "home", 0)
    assert done.returncode == 0, done.stderr
    found = torch.load(out, weights_only=True)
    assert (found["sharded"] > 0) == (config == "fsdp")
    one = learner()
    spec = TrainSpec(epochs=2, batch_size=8, learning_rate=1e-3, dropout=0.0, looks=2)
    rows = train_(one, tiny_tokenizer(), examples(), spec).rows
    torch.testing.assert_close(found["answers"], answers(one), rtol=0, atol=1e-4)
    for mine, theirs in zip(rows, found["rows"], strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-4)


def test_the_first_fsdp_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "1")
    with pytest.raises(RecipeError, match="fsdp_version must be 2, found 1"):
        train_(learner(), tiny_tokenizer(), examples(), TrainSpec(epochs=1))


def gradients(module: Learner, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)  # of dropout
    module.train().zero_grad()
    module(**data)["loss"].backward()
    found = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    module.eval()
    return found


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "distilbert", "electra", "deberta-v2", "modernbert"]
)
def test_activations_computed_again_give_the_same_training(family: str) -> None:
    def trained(spec: TrainSpec) -> Learner:
        objective = Objective(labels=0.5, logits=1.0, hidden=1.0, layers="uniform")
        module = Learner(tiny(family, seed=1), objective, LiveTeacher(tiny(family)))
        train_(module, tiny_tokenizer(family), examples(16), spec)
        return module

    settings: dict[str, Any] = {"epochs": 1, "batch_size": 8, "dropout": 0.0, "seed": 3}
    kept = trained(TrainSpec(**settings))
    again = trained(TrainSpec(**settings, gradient_checkpointing=True))
    for mine, theirs in zip(again.parameters(), kept.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    assert not any(getattr(m, "gradient_checkpointing", False) for m in again.modules())
    assert not any(m._forward_hooks for m in again.modules())


@pytest.mark.parametrize("family", ["albert", "xlnet", "mpnet"])
def test_layers_that_cannot_be_computed_again_are_refused(family: str) -> None:
    spec = TrainSpec(epochs=1, gradient_checkpointing=True)
    module = Learner(tiny(family), Objective(labels=1.0, logits=0.0, hidden=0.0))
    with pytest.raises(UnsupportedArchitectureError, match="gradient_checkpointing must be off"):
        train_(module, tiny_tokenizer(family), examples(8), spec)


def test_a_teacher_elsewhere_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[torch.device] = []
    teacher, data = tiny("bert"), batch()
    objective = Objective(logits=1.0, hidden=1.0, relations=0.1, layers="uniform")
    here = Learner(tiny("bert", seed=1), objective, LiveTeacher(teacher, projections=True))
    there = LiveTeacher(teacher, projections=True, device=torch.device("cpu"))
    plain = type(teacher).to
    monkeypatch.setattr(type(teacher), "to", lambda m, d: moved.append(d) or plain(m, d))
    elsewhere = Learner(tiny("bert", seed=1), objective, there)
    first, second = gradients(here, dict(data)), gradients(elsewhere, dict(data))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not moved


@pytest.mark.gpu
def test_a_teacher_away_from_a_gpu_says_the_same() -> None:
    objective = Objective(logits=1.0, hidden=1.0, layers="uniform")
    data = {name: tensor.cuda() for name, tensor in batch().items()}
    found: list[dict[str, torch.Tensor]] = []
    for device in (None, torch.device("cpu")):
        teaching = LiveTeacher(tiny("bert"), device=device)
        module = Learner(tiny("bert", seed=1), objective, teaching).cuda()
        found.append(gradients(module, dict(data)))
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_a_store_written_on_a_gpu_has_the_cpus_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = CacheSpec(depth=1, max_tokens=4, feature_fraction=0.5)
    there = stored(tiny("bert"), tmp_path / "gpu", spec, store_examples())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    PartialState._reset_state()
    here = stored(tiny("bert"), tmp_path / "cpu", spec, store_examples())
    for name, tensor in here.stored_outputs(range(40)).items():
        torch.testing.assert_close(
            tensor, there.stored_outputs(range(40))[name], rtol=1e-2, atol=1e-2
        )


STORE = """
import sys
from pathlib import Path
import compress.distillation.cache_teacher, compress.distillation.teacher_cache
compress.distillation.cache_teacher.SHARD = compress.distillation.teacher_cache.SHARD = 8
from compress.distillation.cache_spec import CacheSpec
from tests.compress.distill.test_learner import examples, stored
from tests.families import tiny
stored(tiny("bert"), Path(sys.argv[1]), CacheSpec(), examples())
"""


def test_a_store_is_the_same_by_however_many_it_was_written(tmp_path: Path) -> None:
    script = tmp_path / "store.py"
    script.write_text(STORE, encoding="utf-8")
    done = launch("ddp", script, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    alone: Sequence[str] = [sys.executable, str(script), str(tmp_path / "one")]
    subprocess.run(alone, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT, check=True)
    names = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "two").iterdir())
    assert len(names) == 6
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
