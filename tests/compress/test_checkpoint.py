"""Checkpoints: what is refused, what is left alone, and plans that are joined.

That saved equals loaded, family by family, is in `tests/contract`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from compress.checkpoint.checkpoint import load, save
from compress.errors import BundleError, CheckpointError
from compress.model.binding import bind
from compress.model.surgery import apply_
from compress.plan.plan import EncoderShape, Plan
from tests.families import keeping, logits, tiny, uneven


def pruned(family: str, plan_of: Callable[[EncoderShape], Plan]) -> tuple[PreTrainedModel, Plan]:
    model = tiny(family)
    plan = plan_of(bind(model).shape)
    apply_(model, plan)
    return model, plan


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
    assert type(load(tmp_path / "m")).__name__ == "BertForSequenceClassification"


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


def edited(folder: Path, **changes: object) -> Path:
    """The checkpoint with other values in its config."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intermediate_size": 30}, r"intermediate\.dense.*must have the shape \(30.*found \(40"),
        ({"num_hidden_layers": 2}, r"counts, 2, found the weight 'bert\.encoder\.layer\.2\."),
        ({"num_hidden_layers": 4}, r"every weight.*layer\.3\."),
        ({"model_type": "roberta"}, r"must be of one family, found 'roberta'"),
    ],
)
def test_a_config_that_disagrees_with_its_weights_is_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load(edited(stock(tmp_path / "m"), **changes))


def test_a_students_edited_config_is_refused(tmp_path: Path) -> None:
    model = tiny("bert")
    layers = [replace(k, neurons=k.neurons[:16]) for k in Plan.full(bind(model).shape).layers]
    plan = Plan(shape=bind(model).shape, layers=tuple(layers), depth=3)
    apply_(model, plan)
    save(model, plan, tmp_path / "student")
    student = edited(tmp_path / "student", intermediate_size=20)
    with pytest.raises(BundleError, match=r"config\.json differs from its manifest"):
        load(student)
    (student / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.intermediate_size .* must be 16, as its"):
        load(student)


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


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("adapter_config.json", "{}", "holds an adapter"),
        ("modules.json", "[]", None),
    ],
)
def test_what_lies_beside_a_model_is_not_ignored(
    file: str, text: str, message: str | None, tmp_path: Path
) -> None:
    tiny("bert").save_pretrained(tmp_path)
    (tmp_path / file).write_text(text)
    if message is None:
        load(tmp_path)
        return
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


def test_quantised_weights_are_refused_by_their_method(tmp_path: Path) -> None:
    tiny("bert").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"quantised weights \(gptq\)"):
        load(tmp_path)


def test_weights_of_another_name_are_named(tmp_path: Path) -> None:
    tiny("bert").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model.fp16.safetensors")
    with pytest.raises(CheckpointError, match=r"found only model\.fp16\.safetensors"):
        load(tmp_path)


def test_weights_of_a_wrapped_model_are_named(tmp_path: Path) -> None:
    model = tiny("bert")
    model.save_pretrained(tmp_path)
    state = {f"module.{n}": value.contiguous() for n, value in model.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"save model\.module"):
        load(tmp_path)


def test_the_older_layout_of_sentence_transformers_is_refused_whole_and_in_part(
    tmp_path: Path,
) -> None:
    inner = tmp_path / "0_Transformer"
    tiny("bert", head="plain").save_pretrained(inner)
    (tmp_path / "modules.json").write_text("[]")
    for folder in (tmp_path, inner):
        with pytest.raises(CheckpointError, match="older layout"):
            load(folder)


def test_a_sentence_encoder_is_loaded_though_its_config_names_a_head(tmp_path: Path) -> None:
    model = tiny("mpnet", head="plain")
    model.config.architectures = ["MPNetForMaskedLM"]
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["MPNetForMaskedLM"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="must hold every weight"):
        load(tmp_path)
    (tmp_path / "modules.json").write_text("[]")
    assert type(load(tmp_path)).__name__ == "MPNetModel"
