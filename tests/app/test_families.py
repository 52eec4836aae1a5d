"""The commands that a new family meets first: families, inspect, prune on texts, expand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModel, NomicBertForSequenceClassification

from compress.architectures import ARCHITECTURES
from compress.checkpoint.checkpoint import load, save
from compress.checkpoint.stored_plan import stored_plan
from compress.model.binding import bind
from compress.model.surgery import apply_
from compress_export.cli import app
from compress_export.exits import run_app
from compress_export.support import loaders
from tests.families import class_name, hidden, keeping, tiny
from tests.tokenizer import tiny_tokenizer

SHORT = ("--sequence", "12", "--max-length", "20", "--steps", "1")


def cli(*arguments: object) -> int:
    return run_app(app, [str(a) for a in arguments])


def saved(folder: Path, family: str, head: str = "sequence") -> Path:
    tiny(family, head=head).save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(f"w{i} w{i + 1} w{3 * i}" for i in range(30)) + "\n\n")
    return path


def test_families_lists_every_record(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("families", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [row["model_type"] for row in listed] == [a.model_type for a in ARCHITECTURES]
    assert cli("families") == 0
    assert "deberta-v2" in capsys.readouterr().out


def test_only_families_that_name_the_head_width_take_fewer_heads_in_stock() -> None:
    takers = {a.model_type: loaders(a.model_type)[0].one_head_count for a in ARCHITECTURES}
    stock = {name for name, takes in takers.items() if takes}
    assert stock == {"nomic_bert", "eurobert", "jina_embeddings_v3"}


@pytest.mark.parametrize(
    ("family", "head"), [("modernbert", "token"), ("xlnet", "plain"), ("mpnet", "masked")]
)
def test_any_head_is_pruned_on_texts_without_labels(
    family: str, head: str, tmp_path: Path, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = saved(tmp_path / "model", family, head)
    out = tmp_path / "student"
    assert cli("prune", model, "--texts", texts, "--out", out, "--macs", "0.6", *SHORT) == 0
    student = load(out)
    assert type(student).__name__ == class_name(family, head)
    assert stored_plan(student.config) is not None
    capsys.readouterr()
    assert cli("inspect", out) == 0
    drawn = capsys.readouterr().out
    assert "pruned" in drawn
    assert "░" in drawn
    assert "compress-export expand" in " ".join(drawn.split())
    assert cli("expand", out, "--out", tmp_path / "stock") == 0
    assert stored_plan(load(tmp_path / "stock").config) is None
    assert float((hidden(load(tmp_path / "stock")) - hidden(student)).abs().max()) <= 1e-5


def test_uniform_layout_gives_a_stock_checkpoint_where_the_family_can(
    tmp_path: Path, texts: Path
) -> None:
    model = saved(tmp_path / "model", "nomic_bert")
    out = tmp_path / "student"
    options = ("--layout", "uniform", "--macs", "0.5", *SHORT)
    assert cli("prune", model, "--texts", texts, "--out", out, *options) == 0
    shape = bind(load(out)).shape
    assert len(set(shape.n_heads)) == len(set(shape.ffn_widths)) == 1
    assert shape.n_heads[0] < 4
    assert not (out / "modeling_compressed.py").exists()
    stock = NomicBertForSequenceClassification.from_pretrained(out).eval()
    assert float((hidden(stock) - hidden(load(out))).abs().max()) == 0.0


def test_shared_layers_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("inspect", saved(tmp_path / "model", "albert")) == 0
    drawn = " ".join(capsys.readouterr().out.split())
    assert "uses" in drawn
    assert "scores are summed over the uses, and dropping layers means fewer uses" in drawn


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--texts", "gone.txt"), "task.texts must be a text file, found none at gone.txt"),
        (("--texts", "empty.txt"), "one text a line"),
        (("--texts", "odd.txt"), "one text a line"),
        (("--texts", "texts.txt", "--score", "michel"), "reads given labels"),
        (("--texts", "texts.txt", "--layout", "square"), "--layout"),
        (("--task", "sst2", "--texts", "texts.txt"), "one of the two"),
        ((), "one of the two"),
    ],
)
def test_wrong_texts_stop_before_any_work(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    texts: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("\n")
    Path("odd.txt").write_text("w1\nw1\tw2\n")
    model = saved(tmp_path / "model", "bert")
    assert cli("prune", model, "--out", "student", *arguments, *SHORT) == 2
    assert message in capsys.readouterr().err
    assert not Path("student").exists()


def test_texts_cannot_be_measured(
    tmp_path: Path, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "model", "bert")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: model\ntask: {texts: texts.txt}\ntarget: {sequence: 12}\n"
        "benchmark: {sequences: [8], max_length: 20}\n"
    )
    assert cli("run", recipe, "--out", tmp_path / "out") == 2
    assert "no labels to measure accuracy on" in capsys.readouterr().err


def test_expanding_a_student_into_itself_is_refused(
    tmp_path: Path, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = saved(tmp_path / "model", "bert")
    out = tmp_path / "student"
    assert cli("prune", model, "--texts", texts, "--out", out, *SHORT) == 0
    capsys.readouterr()
    assert cli("expand", out, "--out", out) == 2
    assert "--out must not be the model itself" in capsys.readouterr().err
    assert stored_plan(load(out).config) is not None


def test_uniform_students_of_uneven_models_are_refused(
    tmp_path: Path, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pruned = tiny("bert")
    plan = keeping(bind(pruned).shape, 1, 0, None)
    apply_(pruned, plan)
    save(pruned, plan, tmp_path / "uneven", tiny_tokenizer("bert"))
    options = ("--layout", "uniform", "--units", "neurons", *SHORT)
    model = tmp_path / "uneven"
    assert cli("prune", model, "--texts", texts, "--out", tmp_path / "s", *options) == 2
    assert "needs a model whose layers are alike" in capsys.readouterr().err


def test_inspect_tells_machines_what_it_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("inspect", saved(tmp_path / "model", "modernbert"), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [layer["kind"] for layer in told["layers"]] == ["full", "sliding", "sliding"]
    assert sum(layer["macs"] for layer in told["layers"]) == told["encoder_macs"]
    assert sum(layer["parameters"] for layer in told["layers"]) == told["encoder_parameters"]
    assert told["stock_shaped"]
    assert not told["pruned"]


def test_expanding_a_stock_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = saved(tmp_path / "model", "bert")
    assert cli("expand", model, "--out", tmp_path / "stock") == 2
    assert "in stock shapes already" in capsys.readouterr().err
    assert not (tmp_path / "stock").exists()


def test_a_plain_encoder_loads_as_auto_model(tmp_path: Path, texts: Path) -> None:
    model = saved(tmp_path / "model", "roberta", "plain")
    out = tmp_path / "student"
    assert cli("prune", model, "--texts", texts, "--out", out, "--units", "neurons",
               "--layout", "uniform", "--macs", "0.8", *SHORT) == 0  # fmt: skip
    assert type(AutoModel.from_pretrained(out)).__name__ == "RobertaModel"
