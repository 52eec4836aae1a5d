"""Saved equals loaded, in every way that the reload contract promises, in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from compress.checkpoint import load, save
from compress.errors import BundleError, CheckpointError
from compress.layout import bind
from compress.plan import Plan
from compress.surgery import apply_
from tests.families import CLASSES, FAMILIES, batch, keeping, logits, tiny, uneven

LOADERS = {
    "compress.load": "from compress import load\nmodel = load(folder)",
    "remote code": (
        "from transformers import AutoModelForSequenceClassification as A\n"
        "model = A.from_pretrained(folder, trust_remote_code=True)"
    ),
    "stock": (
        "from transformers import AutoModelForSequenceClassification as A\n"
        "model = A.from_pretrained(folder)"
    ),
}

SCRIPT = """
import sys, torch
from safetensors.torch import load_file, save_file
folder, data, out = sys.argv[1:]
{loader}
with torch.no_grad():
    logits = model.eval()(**load_file(data)).logits
save_file({{"logits": logits}}, out)
"""


def reload(loader: str, folder: Path, tmp_path: Path) -> torch.Tensor:
    """Logits of the checkpoint, loaded in a fresh process."""
    data, out = tmp_path / "batch.safetensors", tmp_path / "logits.safetensors"
    save_file({k: v for k, v in batch().items() if k != "labels"}, data)
    code = SCRIPT.format(loader=LOADERS[loader])
    env_home = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    import os

    # Without our package where that is promised: run from an empty folder, sources off the path.
    cwd = Path.cwd() if loader == "compress.load" else tmp_path
    done = subprocess.run(
        [sys.executable, *(() if loader == "compress.load" else ("-P",)), "-c", code,
         str(folder), str(data), str(out)],
        env=os.environ | env_home, cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return load_file(out)["logits"]


def pruned(family: str, plan_of: object) -> tuple[PreTrainedModel, Plan]:
    model = tiny(family)
    plan: Plan = plan_of(bind(model).shape)  # type: ignore[operator]
    apply_(model, plan)
    return model, plan


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("loader", ["compress.load", "remote code"])
def test_uneven_student_reloads_bit_equal(family: str, loader: str, tmp_path: Path) -> None:
    model, plan = pruned(family, uneven)
    save(model, plan, tmp_path / "student")
    assert torch.equal(reload(loader, tmp_path / "student", tmp_path), logits(model))


@pytest.mark.parametrize("loader", ["compress.load", "remote code"])
@pytest.mark.parametrize("family", ["bert", "distilbert", "albert"])
def test_removed_sublayers_reload_bit_equal(family: str, loader: str, tmp_path: Path) -> None:
    model, plan = pruned(family, lambda shape: keeping(shape, 1, 0, 0))
    save(model, plan, tmp_path / "student")
    assert torch.equal(reload(loader, tmp_path / "student", tmp_path), logits(model))


def _narrow(shape: object) -> Plan:
    from dataclasses import replace

    full = Plan.full(shape)  # type: ignore[arg-type]
    layers = tuple(replace(layer, neurons=layer.neurons[:17]) for layer in full.layers)
    if full.shape.groups:
        return Plan(shape=full.shape, layers=layers, depth=2)
    return Plan(shape=full.shape, layers=layers[:2], depth=2)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("loader", ["compress.load", "stock"])
def test_stock_shaped_student_reloads_everywhere(
    family: str, loader: str, tmp_path: Path
) -> None:
    model, plan = pruned(family, _narrow)
    save(model, plan, tmp_path / "student")
    assert not (tmp_path / "student" / "modeling_compressed.py").exists()
    assert torch.equal(reload(loader, tmp_path / "student", tmp_path), logits(model))


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
    with pytest.raises(CheckpointError, match="pickle 'pytorch_model.bin'"):
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
    import json

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
