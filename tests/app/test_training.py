"""The commands that train, on a tiny model and real files: what they write and refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.tasks import FileTask
from compress.checkpoint.checkpoint import load, save
from compress.checkpoint.stored_plan import stored_plan
from compress.distillation.teacher_cache import open_cache
from compress.model.binding import bind
from compress.model.surgery import apply_
from compress.plan.cost import CostModel
from compress_export.cli import app
from compress_export.exits import run_app
from compress_export.loading import load_for
from tests.app.test_pipeline import write_csv
from tests.families import logits, tiny, uneven
from tests.tokenizer import tiny_tokenizer

TASK = "{train: train.csv, validation: validation.csv, text: [sentence], label: label}"


def cli(*arguments: object) -> int:
    return run_app(app, [str(a) for a in arguments])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A teacher, a pruned student of it, a base model of another head, and data."""
    monkeypatch.chdir(tmp_path)
    tiny("bert").save_pretrained("teacher")
    tiny("bert", seed=1, head="masked").save_pretrained("base")
    for folder in ("teacher", "base"):
        tiny_tokenizer().save_pretrained(folder)
    write_csv(tmp_path / "train.csv", 96)
    write_csv(tmp_path / "validation.csv", 40)
    (tmp_path / "task.yaml").write_text(TASK)
    return tmp_path


def pruned() -> str:
    options = ["--task", "task.yaml", "--macs", 0.6, "--calibration-examples", 64]
    options += ["--sequence", 12, "--max-length", 16]
    assert cli("prune", "teacher", "-o", "student", *options) == 0
    return "student"


COMMON = ("--task", "task.yaml", "--epochs", 1, "--batch-size", 16, "--max-length", 16)


def test_finetune_puts_a_head_on_a_base_model(project: Path) -> None:
    assert cli("finetune", "base", "-o", "out", *COMMON) == 0
    model = load("out")
    assert type(model).__name__ == "BertForSequenceClassification"
    assert model.config.num_labels == 3
    told = json.loads((project / "out/training.json").read_text())
    assert set(told["metrics"]) == {"accuracy", "f1_macro"} or "accuracy" in told["metrics"]
    assert [row for row in told["curve"] if "loss_labels" in row]


def test_finetune_drops_layers_first_into_a_stock_checkpoint(project: Path) -> None:
    options = ["--drop-layers", 1, "--strategy", "alternate"]
    assert cli("finetune", "base", "-o", "out", *COMMON, *options) == 0
    assert load("out").config.num_hidden_layers == 2
    from transformers import AutoModelForSequenceClassification

    again = AutoModelForSequenceClassification.from_pretrained("out")
    torch.testing.assert_close(logits(again.eval()), logits(load("out")))


def test_seeds_go_to_folders_of_their_own_and_their_spread_is_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = ["--seed", 3, "--seed", 4]
    assert cli("finetune", "base", "-o", "out", *COMMON, *seeds, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["seed"] for row in told["seeds"]] == [3, 4]
    values = [row["metrics"]["accuracy"] for row in told["seeds"]]
    assert told["mean"]["accuracy"] == pytest.approx(sum(values) / 2)
    assert {"seed-3", "seed-4"} <= {p.name for p in (project / "out").iterdir()}


def test_distil_trains_a_pruned_student_and_keeps_its_plan(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = pruned()
    before = load(student)
    assert cli("distill", student, "--teacher", "teacher", "-o", "out", *COMMON) == 0
    after = load("out")
    assert stored_plan(after.config) == stored_plan(before.config)
    assert not torch.equal(logits(after), logits(before))
    printed = capsys.readouterr().out
    assert "kept" in printed
    assert not list(project.glob("*.training"))


def test_two_processes_write_one_student(project: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launch += ["--master-port", str(31500 + os.getpid() % 2000), "-m", "compress_export"]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    command = [*launch, "distill", "teacher", "--teacher", "teacher", "-o", "out", *COMMON]
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("checkpoint: out") == 1
    assert bind(load("out")).shape.n_layers == 3


def test_what_measures_refuses_several_processes(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli("run", "recipe.yaml") == 2
    assert "must run as one process, found 2" in " ".join(capsys.readouterr().err.split())


def test_what_is_done_is_not_done_again_and_what_differs_is(project: Path) -> None:
    command = ["distill", "teacher", "--teacher", "teacher", "-o", "out", *COMMON]
    assert cli(*command) == 0
    first = (project / "out/training.json").stat().st_mtime_ns
    assert cli(*command) == 0
    assert (project / "out/training.json").stat().st_mtime_ns == first
    assert cli(*command, "--learning-rate", 2e-4) == 0
    assert (project / "out/training.json").stat().st_mtime_ns != first


def test_labels_in_another_order_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, names in (("teacher", "abc"), ("other", "cba")):
        model = tiny("bert")
        model.config.id2label = dict(enumerate(names))
        model.config.label2id = {label: i for i, label in enumerate(names)}
        model.save_pretrained(name)
        tiny_tokenizer().save_pretrained(name)
    for name in ("train", "validation"):
        text = (project / f"{name}.csv").read_text()
        for number, label in enumerate("abc"):
            text = text.replace(f",{number}", f",{label}")
        (project / f"{name}.csv").write_text(text)
    assert cli("distill", "other", "--teacher", "teacher", "-o", "out", *COMMON) == 2
    assert "order their labels alike" in " ".join(capsys.readouterr().err.split())


def test_distil_without_labels_on_bare_texts(project: Path) -> None:
    (project / "texts.txt").write_text("\n".join(f"w{i} w{i + 1} w{i + 2}" for i in range(64)))
    options = ["--texts", "texts.txt", "--epochs", 1, "--max-length", 16]
    assert cli("distill", pruned(), "--teacher", "teacher", "-o", "out", *options) == 0


def test_distil_from_a_store_loads_no_teacher(project: Path) -> None:
    student = pruned()
    options = ["--task", "task.yaml", "--max-length", 16, "--width", 0.5]
    assert cli("remember", "teacher", "-o", "store", *options) == 0
    assert open_cache(project / "store").metadata.rows == 96
    (project / "teacher").rename(project / "away")
    assert cli("distill", student, "--store", "store", "-o", "out", *COMMON) == 0
    assert load("out") is not None


def test_texts_without_labels_are_learnt_from_beside_the_task(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "more.txt").write_text("\n".join(f"w{i} w{i + 1}" for i in range(32)))
    more = ["--more-texts", "more.txt"]
    options = ["--task", "task.yaml", "--max-length", 16, *more]
    assert cli("remember", "teacher", "-o", "store", *options) == 0
    assert open_cache(project / "store").metadata.rows == 96 + 32
    assert cli("distill", "teacher", "--store", "store", "-o", "a", *COMMON, *more) == 0
    stops = ["--patience", 3]
    assert cli("distill", "teacher", "--teacher", "teacher", "-o", "b", *COMMON, *more, *stops) == 0
    told = capsys.readouterr().err
    assert "step 8/8: loss" in told
    assert "metric" in told
    assert cli("distill", "teacher", "--store", "store", "-o", "c", *COMMON) == 2


def test_a_store_of_other_data_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("remember", "teacher", "-o", "store", "--task", "task.yaml", "--max-length", 12) == 0
    assert cli("distill", "teacher", "--store", "store", "-o", "out", *COMMON) == 2
    assert "of this data" in " ".join(capsys.readouterr().err.split())


def test_pruning_while_learning_leaves_the_share(project: Path) -> None:
    options = ["--prune-to", 0.6, "--batch-size", 8, "--task", "task.yaml", "--max-length", 16]
    assert cli("distill", "teacher", "--teacher", "teacher", "-o", "out", *options) == 0
    plan = stored_plan(load("out").config)
    assert plan is not None
    assert bind(load("out")).shape.n_heads == plan.student_shape.n_heads
    cost = CostModel(unit="macs", sequence=16)
    assert 0.5 < cost.total(plan.student_shape) / cost.total(plan.shape) <= 0.6


def test_a_student_of_chosen_layers_and_units_learns_from_its_teacher(project: Path) -> None:
    sizes = ["--layer", 0, "--layer", 2, "--heads", 2, "--neurons", 16]
    assert cli("student", "teacher", "-o", "small", *sizes) == 0
    shape = bind(load("small")).shape
    assert (shape.n_heads, shape.ffn_widths) == ((2, 2), (16, 16))
    assert cli("distill", "small", "--teacher", "teacher", "-o", "out", *COMMON) == 0
    stock = ["--layer", 0, "--layer", 1]
    assert cli("student", "teacher", "-o", "stock", *stock) == 0
    torch.testing.assert_close(
        load("stock").base_model.encoder.layer[1].output.dense.weight,
        load("teacher").base_model.encoder.layer[1].output.dense.weight,
    )


def test_a_fresh_student_of_another_width_learns(project: Path) -> None:
    sizes = ["--set", "hidden_size=16", "--set", "num_hidden_layers=2", "--set"]
    assert cli("student", "teacher", "-o", "fresh", *sizes, "intermediate_size=24") == 0
    assert load("fresh").config.hidden_size == 16
    learn = ["--learn", "logits=1", "--learn", "hidden=1", "--learn", "relations=1"]
    assert cli("distill", "fresh", "--teacher", "teacher", "-o", "out", *COMMON, *learn) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "to cut the teacher"),
        (["--layer", 0, "--set", "hidden_size=16"], "to cut the teacher"),
        (["--layer", 7], "chosen among 0 to 2"),
        (["--layer", 1, "--layer", 0], "in order"),
        (["--heads", 9], "heads must be 1 to 4"),
        (["--set", "hidden=16"], "--set must name fields"),
        (["--set", "hidden_size"], "FIELD=VALUE"),
        (["--set", "hidden_size=17"], "must leave a config"),
    ],
)
def test_students_that_cannot_be_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str], options: list[object], said: str
) -> None:
    assert cli("student", "teacher", "-o", "small", *options) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (project / "small").exists()


def test_another_tokenizer_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_tokenizer("roberta").save_pretrained("base")
    tiny("bert", seed=1).save_pretrained("base")
    assert cli("distill", "base", "--teacher", "teacher", "-o", "out", *COMMON) == 2
    assert "must share a tokenizer" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--learn", "logits"], "SIGNAL=WEIGHT"),
        (["--learn", "noise=1"], "SIGNAL=WEIGHT"),
        (["--learn", "logits=-1"], "recover.objective.logits"),
        (["--learn", "logits=0"], "all weights are 0"),
        (["--layers", "middle"], "--layers: "),
        (["--layers", "1:9"], "layer map"),
        (["--precision", "int4"], "--precision: "),
        (["--learning-rate", "-1"], "--learning-rate must be above 0"),
        (["--prune-to", "1.5"], "GradualSpec.share: 1.5 is not"),
        (["--store", "teacher"], "one of the two"),
        (["--prune-to", "0.5", "--patience", "1"], "leave one out"),
        (["--learn", "relations=1", "--layers", "nearest"], "nearest"),
        (["--task", "none.yaml"], "readable YAML"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    student = "teacher"
    assert cli("distill", student, "--teacher", "teacher", "-o", "out", *COMMON, *options) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (project / "out").exists()


def test_a_recipe_recovers_after_pruning_and_the_report_draws_it(project: Path) -> None:
    recipe = f"""
model: teacher
task: {TASK}
target: {{macs: 0.5, batch: 2, sequence: 8}}
prune: {{steps: 1, round_to: 4, calibration_examples: 64}}
recover: {{epochs: 2, batch_size: 16, objective: {{relations: 0.1}}}}
export: {{variants: [cpu-fp32]}}
benchmark: {{batches: [1], sequences: [4], rounds: 3, seconds: 0.1, max_length: 16}}
"""
    (project / "recipe.yaml").write_text(recipe)
    assert cli("run", "recipe.yaml", "-o", "out") == 0
    report: dict[str, Any] = json.loads((project / "out/report.json").read_text())
    losses = [row["loss"] for row in report["training"]["curve"] if "loss" in row]
    assert losses[-1] < losses[0]
    page = (project / "out/report.html").read_text()
    assert "<h2>Training</h2>" in page
    assert (
        "learnt for 2 epochs from logits, hidden (weight 10.0), relations (weight 0.1)"
        in " ".join(page.split())
    )
    changed = load(project / "out/checkpoint")
    assert not torch.equal(logits(changed), logits(load(project / "out/pruned")))
    stage = (project / "out/stages/recover.json").stat().st_mtime_ns
    assert cli("run", "recipe.yaml", "-o", "out") == 0
    assert (project / "out/stages/recover.json").stat().st_mtime_ns == stage


def test_knowledge_that_is_not_there_is_refused_first(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--task", "task.yaml", "--max-length", 16, "-o", "out"]
    assert cli("remember", "teacher", *common, "--depth", 9) == 2
    assert "--depth must be at most 4" in " ".join(capsys.readouterr().err.split())
    assert not Path("out").exists()


def test_finetune_puts_a_head_on_a_student_that_a_stock_config_can_say(project: Path) -> None:
    tiny("bert", head="plain").save_pretrained("encoder")
    tiny_tokenizer().save_pretrained("encoder")
    assert cli("student", "encoder", "--layer", 0, "--layer", 2, "-o", "small") == 0
    assert cli("finetune", "small", *COMMON, "-o", "trained") == 0
    config = json.loads(Path("trained/config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert "compress_export" not in config
    assert bind(load("trained")).shape.depth == 2


def test_finetune_refuses_an_uneven_student_without_the_head(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny("bert", head="plain")
    plan = uneven(bind(model).shape)
    apply_(model, plan)
    save(model, plan, Path("uneven"), tiny_tokenizer())
    assert cli("finetune", "uneven", "--task", "task.yaml", "-o", "trained") == 2
    assert "is pruned unevenly" in capsys.readouterr().err


def relabelled(path: Path, names: tuple[str, ...]) -> None:
    """The project's data with other names for its classes."""
    for file in (path / "train.csv", path / "validation.csv"):
        header, *rows = file.read_text().splitlines()
        found = [row.rpartition(",") for row in rows]
        lines = [f"{text},{names[int(label) % len(names)]}" for text, _, label in found]
        file.write_text("\n".join([header, *lines]) + "\n")


def test_finetune_names_a_head_that_names_nothing_after_the_data(project: Path) -> None:
    relabelled(project, ("ham", "spam", "eggs"))
    assert cli("finetune", "teacher", "-o", "out", *COMMON) == 0
    assert load("out").config.id2label == {0: "eggs", 1: "ham", 2: "spam"}


def test_finetune_makes_a_head_of_other_classes_anew(project: Path) -> None:
    model = load("teacher")
    model.config.id2label = {0: "a", 1: "b", 2: "c"}
    model.config.label2id = {"a": 0, "b": 1, "c": 2}
    model.save_pretrained("teacher")
    relabelled(project, ("ham", "spam", "eggs"))
    found = load_for("teacher", FileTask(
        train=project / "train.csv", validation=project / "validation.csv",
        text=("sentence",), label="label",
    ).load("train"))  # fmt: skip
    assert list(found.config.label2id) == ["eggs", "ham", "spam"]
    assert not torch.equal(found.classifier.weight, model.classifier.weight)
    assert torch.equal(found.get_input_embeddings().weight, model.get_input_embeddings().weight)


def test_wrong_validation_labels_are_refused_before_training(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "validation.csv"
    path.write_text(path.read_text() + "w1 w2,7\n")
    assert cli("finetune", "base", "-o", "out", *COMMON) == 2
    printed = capsys.readouterr().err
    assert "example 41: label '7' is not one of" in printed
    assert "training" not in printed
    assert not (project / "out").exists()


def test_a_student_without_names_takes_its_teachers(project: Path) -> None:
    model = load("teacher")
    model.config.id2label = {0: "2", 1: "1", 2: "0"}
    model.config.label2id = {"2": 0, "1": 1, "0": 2}
    model.save_pretrained("teacher")
    tiny("bert", seed=2).save_pretrained("nameless")
    tiny_tokenizer().save_pretrained("nameless")
    assert cli("distill", "nameless", "--teacher", "teacher", "-o", "out", *COMMON) == 0
    assert load("out").config.label2id == {"2": 0, "1": 1, "0": 2}


def test_metrics_are_of_the_validation_file_that_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("finetune", "base", "-o", "out", *COMMON, "--json")
    assert cli(*command) == 0
    first = json.loads(capsys.readouterr().out)["mean"]["accuracy"]
    model = load("out")
    from compress_export.loading import label2id, load_tokenizer

    rows = (project / "validation.csv").read_text().splitlines()
    texts = [row.rpartition(",")[0] for row in rows[1:]]
    encoded = load_tokenizer("out")(texts, padding=True, truncation=True, max_length=16,
                                    return_tensors="pt")  # fmt: skip
    with torch.no_grad():
        answers = model(**encoded).logits.argmax(-1).tolist()
    names = {i: name for name, i in label2id(model).items()}
    right = [f"{text},{names[answer]}" for text, answer in zip(texts, answers, strict=True)]
    (project / "validation.csv").write_text("\n".join([rows[0], *right]) + "\n")
    weights = (project / "out" / "model.safetensors").stat().st_mtime_ns
    assert cli(*command) == 0
    assert json.loads(capsys.readouterr().out)["mean"]["accuracy"] == 1.0 != first
    assert (project / "out" / "model.safetensors").stat().st_mtime_ns == weights
