"""Saved equals loaded, in every way that the reload contract promises, in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from compress.binding import bind
from compress.checkpoint import load, save
from compress.errors import BundleError, CheckpointError
from compress.plan import EncoderShape, Plan
from compress.surgery import apply_
from tests.families import CLASSES, FAMILIES, batch, keeping, logits, tiny, uneven

LOADERS = {
    "compress.load": "from compress import load",
    "remote code": (
        "from transformers import AutoModelForSequenceClassification as A\n"
        "load = lambda folder: A.from_pretrained(folder, trust_remote_code=True)"
    ),
    "stock": (
        "from transformers import AutoModelForSequenceClassification as A\nload = A.from_pretrained"
    ),
}

SCRIPT = """
import pathlib, sys, torch
from safetensors.torch import load_file, save_file
{loader}
data = load_file(sys.argv[1] + "/batch.safetensors")
logits = {{}}
for name in sys.argv[2:]:
    with torch.no_grad():
        logits[name] = load(sys.argv[1] + "/" + name).eval()(**data).logits
save_file(logits, sys.argv[1] + "/logits.safetensors")
assert ({ours} or "compress" not in sys.modules)
"""


def reload(loader: str, root: Path, names: list[str]) -> dict[str, torch.Tensor]:
    """Logits of the checkpoints in `root`, all loaded in one fresh process.

    Without our package where that is promised: run from the checkpoints' folder.
    """
    ours = loader == "compress.load"
    save_file({k: v for k, v in batch().items() if k != "labels"}, root / "batch.safetensors")
    code = SCRIPT.format(loader=LOADERS[loader], ours=ours)
    environment = os.environ | {"HF_HOME": str(root / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(root), *names],
        env=environment,
        cwd=Path.cwd() if ours else root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return load_file(root / "logits.safetensors")


def _narrow(shape: EncoderShape) -> Plan:
    """A plan that stock classes can load: fewer layers, one narrower FFN width."""
    full = Plan.full(shape)
    layers = tuple(replace(layer, neurons=layer.neurons[:17]) for layer in full.layers)
    return Plan(shape=shape, layers=layers if shape.groups else layers[:2], depth=2)


def _without_sublayers(shape: EncoderShape) -> Plan:
    return keeping(shape, 1, 0, 0)


PLANS = {"uneven": uneven, "removed": _without_sublayers, "narrow": _narrow}


def pruned(family: str, plan_of: Callable[[EncoderShape], Plan]) -> tuple[PreTrainedModel, Plan]:
    model = tiny(family)
    plan = plan_of(bind(model).shape)
    apply_(model, plan)
    return model, plan


@pytest.mark.parametrize(
    ("loader", "kinds"),
    [
        ("compress.load", ("uneven", "removed", "narrow")),
        ("remote code", ("uneven", "removed")),
        ("stock", ("narrow",)),
    ],
)
def test_students_reload_bit_equal_in_a_fresh_process(
    loader: str, kinds: tuple[str, ...], tmp_path: Path
) -> None:
    expected = {}
    for family in FAMILIES:
        for kind in kinds:
            model, plan = pruned(family, PLANS[kind])
            save(model, plan, tmp_path / f"{family}-{kind}")
            expected[f"{family}-{kind}"] = logits(model)
    found = reload(loader, tmp_path, list(expected))
    assert [n for n, value in expected.items() if not torch.equal(found[n], value)] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_only_uneven_students_bring_code_along(family: str, tmp_path: Path) -> None:
    for kind, brings in (("uneven", True), ("narrow", False)):
        model, plan = pruned(family, PLANS[kind])
        save(model, plan, tmp_path / kind)
        assert (tmp_path / kind / "modeling_compressed.py").exists() == brings


def test_pruning_a_pruned_checkpoint_joins_the_plans(tmp_path: Path) -> None:
    model, first = pruned("bert", uneven)
    save(model, first, tmp_path / "once")
    again = load(tmp_path / "once")
    second = keeping(bind(again).shape, 0, 1, 3)
    apply_(again, second)
    save(again, second, tmp_path / "twice")
    assert Plan.load(tmp_path / "twice" / "plan.json") == first.then(second)
    assert torch.equal(logits(load(tmp_path / "twice")), logits(again))


def test_saving_leaves_the_config_as_it_was(tmp_path: Path) -> None:
    model, plan = pruned("bert", uneven)
    model.config.dtype = torch.float32  # transformers writes it when it saves
    before = model.config.to_dict()
    save(model, plan, tmp_path / "student")
    assert model.config.to_dict() == before


def stock(folder: Path) -> Path:
    tiny("bert").save_pretrained(folder)
    return folder


def test_stock_checkpoint_loads(tmp_path: Path) -> None:
    assert torch.equal(logits(load(stock(tmp_path / "m"))), logits(tiny("bert")))
    assert CLASSES["bert"] == type(load(tmp_path / "m")).__name__


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        load(tmp_path / "nowhere")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = stock(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pickle 'pytorch_model\.bin'"):
        load(folder)


def test_unreadable_config_is_named(tmp_path: Path) -> None:
    folder = stock(tmp_path / "m")
    (folder / "config.json").write_text("{not json")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(folder)


def test_truncated_weights_are_named(tmp_path: Path) -> None:
    folder = stock(tmp_path / "m")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="weights"):
        load(folder)


def test_non_finite_weight_is_named_by_tensor(tmp_path: Path) -> None:
    model = tiny("bert")
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.weight[0, 0] = float("nan")
    model.save_pretrained(tmp_path / "m")
    with pytest.raises(CheckpointError, match=r"layer\.1\.output\.dense\.weight.*NaN"):
        load(tmp_path / "m")


def test_encoder_without_a_task_head_is_told_apart(tmp_path: Path) -> None:
    tiny("bert").bert.save_pretrained(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="fine-tune the model first"):
        load(tmp_path / "m")


def test_foreign_output_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    model, plan = pruned("bert", uneven)
    with pytest.raises(BundleError, match="name another folder"):
        save(model, plan, tmp_path / "mine")
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "thesis.txt"]


def test_full_disk_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, plan = pruned("bert", uneven)
    save(model, plan, tmp_path / "student")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        save(model, plan, tmp_path / "student")
    assert [p.name for p in tmp_path.iterdir()] == ["student"]
    assert torch.equal(logits(load(tmp_path / "student")), logits(model))
