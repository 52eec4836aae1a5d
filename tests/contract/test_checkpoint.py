"""Saved equals loaded, in every way that the reload contract promises, in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification, BertModel, PreTrainedModel

from compress.architectures import architecture_for
from compress.checkpoint.checkpoint import load, save
from compress.checkpoint.expand import expand, save_expanded
from compress.errors import LayoutError, PlanError
from compress.model.binding import bind
from compress.model.surgery import apply_
from compress.model.task_head import head_of
from compress.plan.plan import EncoderShape, Plan
from compress.plan.stock_config import stock_attributes
from tests.families import (
    FAMILIES,
    VARIANTS,
    batch,
    choices,
    every_head,
    hidden,
    keeping,
    outputs,
    plan_of,
    tiny,
    uneven,
)

EVERY = (*FAMILIES, *VARIANTS)

SCRIPT = """
import pathlib, sys, torch, transformers
from safetensors.torch import load_file, save_file

def stock(folder, auto):
    return getattr(transformers, auto).from_pretrained(folder)

def remote(folder, auto):
    return getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True)

def ours(folder, auto):
    from compress import load
    return load(folder)

found = {}
root = pathlib.Path(sys.argv[1])
for line in (root / "models.txt").read_text().splitlines():
    name, auto, data = line.split("\\t")
    with torch.no_grad():
        out = LOADER(str(root / name), auto).eval()(**load_file(root / data))
    for key in ("logits", "start_logits", "end_logits", "last_hidden_state", "pooler_output"):
        if isinstance(out.get(key), torch.Tensor):
            found[f"{name}/{key}"] = out[key].contiguous()
save_file(found, root / "found.safetensors")
assert "LOADER" == "ours" or "compress" not in sys.modules
"""


def narrow(shape: EncoderShape) -> Plan:
    """A plan that stock classes can load: fewer layers, one narrower FFN width."""
    full = Plan.full(shape)
    layers = tuple(replace(layer, neurons=layer.neurons[:17]) for layer in full.layers)
    return Plan(shape=shape, layers=layers if shape.groups else layers[:2], depth=2)


def without_sublayers(shape: EncoderShape) -> Plan:
    return keeping(shape, 1, 0, 0)


def without_first(shape: EncoderShape) -> Plan:
    if shape.groups:
        return plan_of(shape, *range(shape.n_layers), depth=2)
    return plan_of(shape, *range(0 if shape.first_pinned else 1, shape.n_layers))


def uniform(shape: EncoderShape) -> Plan:
    """Two heads and 16 neurons in every layer, others in each."""
    layers = tuple(
        replace(layer, heads=(i % 2, 2), neurons=layer.neurons[i : i + 16])
        for i, layer in enumerate(Plan.full(shape).layers)
    )
    return Plan(shape=shape, layers=layers, depth=shape.depth)


PLANS: dict[str, Callable[[EncoderShape], Plan]] = {
    "uneven": uneven,
    "removed": without_sublayers,
    "narrow": narrow,
    "first": without_first,
    "uniform": uniform,
}


def pruned(family: str, kind: str, head: str = "sequence") -> tuple[PreTrainedModel, Plan]:
    model = tiny(family, head=head)
    plan = PLANS[kind](bind(model).shape)
    apply_(model, plan)
    return model, plan


class Saved:
    """Checkpoints in one folder, and what the models gave before they were saved."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.expected: dict[str, Tensor] = {}
        self.lines: dict[str, list[str]] = {"stock": [], "remote": [], "ours": []}
        data = {k: v for k, v in batch().items() if k != "labels"}
        save_file(data, root / "rows.safetensors")
        save_file(
            {k: v.contiguous() for k, v in choices(data).items()}, root / "choices.safetensors"
        )

    def add(self, name: str, model: PreTrainedModel, plan: Plan) -> None:
        save(model, plan, self.root / name)
        self.note(name, model, (self.root / name / "modeling_compressed.py").exists())

    def note(self, name: str, model: PreTrainedModel, code: bool, loaders: int = 2) -> None:
        head = head_of(model)
        data = "choices.safetensors" if head.choices else "rows.safetensors"
        self.expected |= {f"{name}/{key}": value for key, value in outputs(model).items()}
        for loader in ("remote" if code else "stock", "ours")[:loaders]:
            self.lines[loader].append(f"{name}\t{head.auto_class}\t{data}")

    def reload(self, loader: str) -> dict[str, Tensor]:
        """What the models give, all loaded in one fresh process.

        Without our package where that is promised: run from the checkpoints' folder.
        """
        (self.root / "models.txt").write_text("\n".join(self.lines[loader]))
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.replace("LOADER", loader), str(self.root)],
            env=os.environ | {"HF_HOME": str(self.root / "hf"), "HF_HUB_OFFLINE": "1"},
            cwd=Path.cwd() if loader == "ours" else self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return load_file(self.root / "found.safetensors")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Every family, every plan and every model head, saved once."""
    found = Saved(tmp_path_factory.mktemp("checkpoints"))
    for family in EVERY:
        for kind in PLANS:
            found.add(f"{family}-{kind}", *pruned(family, kind))
    for family, head in every_head():
        found.add(f"{family}-{head}", *pruned(family, "uneven", head))
    for family in EVERY:
        model, plan = pruned(family, "uneven")
        stock = expand(model, plan)
        stock.save_pretrained(found.root / f"{family}-expanded")
        found.note(f"{family}-expanded", stock, code=False, loaders=1)
    return found


@pytest.mark.parametrize("loader", ["ours", "remote", "stock"])
def test_students_reload_bit_equal_in_a_fresh_process(loader: str, saved: Saved) -> None:
    found = saved.reload(loader)
    names = {line.split("\t")[0] for line in saved.lines[loader]}
    expected = {k: v for k, v in saved.expected.items() if k.split("/")[0] in names}
    assert found.keys() == expected.keys()
    assert [k for k, value in expected.items() if not torch.equal(found[k], value)] == []
    assert names


@pytest.mark.parametrize("family", FAMILIES)
def test_only_what_no_stock_config_can_say_brings_code_along(family: str, saved: Saved) -> None:
    architecture = architecture_for(family)
    brings = {
        kind: (saved.root / f"{family}-{kind}" / "modeling_compressed.py").exists()
        for kind in PLANS
    }
    assert brings == {
        "uneven": True,
        "removed": True,
        "narrow": False,
        "first": architecture.first_differs,
        "uniform": not architecture.head_keys,
    }


@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("kind", ["uneven", "removed", "first"])
def test_expanded_students_have_stock_shapes_and_equal_outputs(family: str, kind: str) -> None:
    model, plan = pruned(family, kind)
    stock = expand(model, plan)
    full = bind(tiny(family)).shape
    assert type(stock).__module__.startswith("transformers.models.")
    assert set(bind(stock).shape.n_heads) == set(full.n_heads)
    assert set(bind(stock).shape.ffn_widths) == set(full.ffn_widths)
    assert float((hidden(stock) - hidden(model)).abs().max()) <= 1e-5
    for name, value in outputs(model).items():
        assert float((outputs(stock)[name] - value).abs().max()) <= 1e-5


def test_plans_in_turn_save_as_one(tmp_path: Path) -> None:
    """The second drops the layer that no stock config could say: the whole can be said again."""
    model = tiny("bert")
    shape = bind(model).shape
    layers = [replace(layer, neurons=layer.neurons[:17]) for layer in Plan.full(shape).layers]
    layers[0] = replace(layers[0], heads=(0, 1))
    first = Plan(shape=shape, layers=tuple(layers), depth=3)
    apply_(model, first)
    second = plan_of(bind(model).shape, 1, 2)
    apply_(model, second)
    save(model, first.then(second), tmp_path / "student")
    assert not (tmp_path / "student" / "modeling_compressed.py").exists()
    assert torch.equal(hidden(load(tmp_path / "student")), hidden(model))


@pytest.mark.parametrize("kind", ["uneven", "narrow", "removed"])
def test_an_encoder_without_a_pooler_keeps_none(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    bare = BertModel(tiny("bert").config, add_pooling_layer=False).eval()
    bare.save_pretrained(tmp_path / "bare")
    model = load(tmp_path / "bare")
    assert model.pooler is None
    plan = PLANS[kind](bind(model).shape)
    apply_(model, plan)
    save(model, plan, tmp_path / "student")
    again = load(tmp_path / "student")
    assert again.pooler is None
    assert torch.equal(hidden(again), hidden(model))
    assert expand(again).pooler is None


def test_a_student_saved_by_transformers_stays_ours(tmp_path: Path) -> None:
    """Whoever fine-tunes a student loaded by its own code saves it with save_pretrained."""
    model, plan = pruned("mpnet", "uneven")
    save(model, plan, tmp_path / "student")
    remote = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "student", trust_remote_code=True
    )
    remote.save_pretrained(tmp_path / "tuned", max_shard_size="20KB")
    assert (tmp_path / "tuned" / "model.safetensors.index.json").exists()
    assert torch.equal(hidden(load(tmp_path / "tuned")), hidden(model))
    with pytest.raises(LayoutError, match=r"load it with compress\.load"):
        bind(remote)


def test_a_half_precision_student_saves(tmp_path: Path) -> None:
    model, plan = pruned("bert", "uneven")
    save(model.half(), plan, tmp_path / "student")
    assert torch.equal(
        load(tmp_path / "student").classifier.weight, model.classifier.weight.float()
    )


def test_expanding_with_a_stale_plan_is_refused(tmp_path: Path) -> None:
    model, plan = pruned("bert", "uneven")
    save(model, plan, tmp_path / "student")
    again = load(tmp_path / "student")
    apply_(again, keeping(bind(again).shape, 0, 1, 3))
    with pytest.raises(PlanError, match="the plan must be the model's own"):
        expand(again)


def test_expanding_a_loaded_student_reads_its_plan(tmp_path: Path) -> None:
    model, plan = pruned("roberta", "uneven")
    save(model, plan, tmp_path / "student")
    save_expanded(load(tmp_path / "student"), tmp_path / "stock")
    assert stock_attributes(architecture_for("roberta"), Plan.full(plan.shape)) is not None
    stock = load(tmp_path / "stock")
    assert bind(stock).shape.n_heads == plan.shape.n_heads
    assert float((hidden(stock) - hidden(model)).abs().max()) <= 1e-5


def test_expanding_a_stock_model_is_refused() -> None:
    with pytest.raises(PlanError, match="stock shapes already"):
        expand(tiny("bert"))
