"""The main job end to end on a tiny model and real files: whole, resumable, and gated."""

from __future__ import annotations

import csv
import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.checkpoint.checkpoint import load
from compress.files.folder import read_manifest, verify_folder
from compress.model.binding import bind
from compress_export import context, pipeline
from compress_export.cli import app
from compress_export.demo.sentences import generate
from compress_export.exits import run_app
from compress_export.recipe import parse_recipe
from tests.families import logits, tiny
from tests.tokenizer import tiny_tokenizer


def cli(arguments: list[str]) -> int:
    return run_app(app, arguments)


RECIPE = """\
# kept to the letter, this comment too
model: ./teacher
task: {train: train.csv, validation: validation.csv, text: sentence, label: label}
target: {macs: 0.5, batch: 2, sequence: 8}
prune: {steps: 2, round_to: 4, calibration_examples: 64}
export: {variants: [cpu-fp32, portable]}
benchmark: {batches: [1], sequences: [4], rounds: 3, seconds: 0.1, max_length: 16}
"""


def write_csv(path: Path, count: int, labels: int = 3) -> None:
    rng = np.random.default_rng(count)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence", "label"])
        for _ in range(count):
            words = " ".join(f"w{i}" for i in rng.integers(0, 94, rng.integers(2, 14)))
            writer.writerow([words, int(rng.integers(0, labels))])


def answer_mostly_right(teacher: Path, file: Path) -> None:
    """Give two of three examples the label that a model answers: it is then worth keeping."""
    with file.open(newline="", encoding="utf-8") as given:
        rows = list(csv.reader(given))
    texts = [text for text, _ in rows[1:]]
    encoded = tiny_tokenizer()(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        answers = load(teacher)(**encoded).logits.argmax(-1).tolist()
    labels = [own if i % 3 == 0 else answers[i] for i, (_, own) in enumerate(rows[1:])]
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([rows[0], *zip(texts, labels, strict=True)])


def write_project(folder: Path) -> Path:
    """A tiny teacher, data and a recipe."""
    tiny("bert").save_pretrained(folder / "teacher")
    tiny_tokenizer().save_pretrained(folder / "teacher")
    write_csv(folder / "train.csv", 80)
    write_csv(folder / "validation.csv", 60)
    answer_mostly_right(folder / "teacher", folder / "validation.csv")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path)


def run(project: Path, *more: str) -> int:
    return cli(["run", str(project / "recipe.yaml"), "-o", str(project / "out"), *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests that change it work on a copy."""
    folder = write_project(tmp_path_factory.mktemp("finished"))
    assert run(folder) == 0
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "report.json").read_text())  # type: ignore[no-any-return]


def test_a_run_leaves_the_whole_folder_and_nothing_beside_it(finished: Path) -> None:
    out = finished / "out"
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert {
        "recipe.yaml", "plan.json", "manifest.json", "report.json", "report.md", "report.html",
        "checkpoint/model.safetensors", "checkpoint/config.json", "checkpoint/tokenizer.json",
        "onnx/cpu-fp32/model.onnx", "onnx/cpu-fp32/config.json", "onnx/portable/model.onnx",
        "stages/prune.json", "stages/latency.json", "predictions.npz",
    } <= names  # fmt: skip
    assert not any("teacher" in name for name in names - {"stages/teacher.json"})
    assert sorted(p.name for p in finished.iterdir()) == [
        "out", "recipe.yaml", "teacher", "train.csv", "validation.csv"
    ]  # fmt: skip
    verify_folder(out)


def test_the_recipe_is_copied_to_the_letter(finished: Path) -> None:
    assert (finished / "out" / "recipe.yaml").read_text() == RECIPE


def test_the_report_follows_its_schema(finished: Path) -> None:
    report = report_of(finished)
    assert (report["schema"], report["verdict"]) == (1, "pass")
    assert (
        report["models"]["student"]["encoder_macs"]
        <= 0.5 * report["models"]["teacher"]["encoder_macs"]
    )
    names = {
        "accuracy": {"task", "metric", "variant", "examples", "teacher", "student", "retention",
                     "low", "high"},
        "latency": {"contender", "variant", "provider", "batch", "sequence", "p50_ms", "p90_ms",
                    "p95_ms", "p99_ms", "low_ms", "high_ms", "samples", "throughput_per_s"},
        "parity": {"variant", "case", "difference", "tolerance"},
    }  # fmt: skip
    for field, keys in names.items():
        assert report[field]
        assert all(keys <= row.keys() for row in report[field])
    assert set(report["fusion"]) == {"cpu-fp32", "portable"}
    assert {(r["batch"], r["sequence"]) for r in report["latency"]} == {(1, 4), (2, 8)}


def test_figures_are_those_of_the_student_on_disk(finished: Path) -> None:
    student = load(finished / "out" / "checkpoint")
    report = report_of(finished)
    heads = [len(row["heads"]) for row in report["kept"]]
    assert tuple(heads) == bind(student).shape.n_heads
    assert report["models"]["student"]["parameters"] == sum(p.numel() for p in student.parameters())
    with np.load(finished / "out" / "predictions.npz") as data:
        accuracy = float((data["student @ cpu-fp32"].argmax(1) == data["labels"]).mean())
    row = next(r for r in report["accuracy"] if r["variant"] == "cpu-fp32")
    assert row["student"] == pytest.approx(accuracy)


def test_html_is_one_small_self_contained_file(finished: Path) -> None:
    page = (finished / "out" / "report.html").read_text()
    assert len(page) < 1_000_000
    assert "<svg" in page
    for outside in ("src=", "<link", "@import", "url(http", "<script"):
        assert outside not in page


def test_markdown_tells_the_same_figures(finished: Path) -> None:
    text, report = (finished / "out" / "report.md").read_text(), report_of(finished)
    assert all(f"{100 * row['retention']:.1f} %" in text for row in report["accuracy"])


def test_a_second_run_does_nothing_again(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = report_of(copied)
    for name in ("reach", "export_bundle", "export_variant", "measure_accuracy",
                 "measure_latency", "head_importance"):  # fmt: skip
        monkeypatch.setattr(pipeline, name, None)
    assert run(copied) == 0
    assert report_of(copied) == before
    assert not (copied / "out.partial").exists()


def test_a_changed_gate_is_judged_on_what_was_measured(copied: Path) -> None:
    (copied / "recipe.yaml").write_text(RECIPE + "gate: {speedup: 1000}\n")
    assert run(copied) == 1
    assert report_of(copied)["gates"][0]["verdict"] == "fail"
    (copied / "recipe.yaml").write_text(RECIPE + "gate: {latency_ms: {p50: 0.0001}}\n")
    assert run(copied) == 1
    (copied / "recipe.yaml").write_text(RECIPE + "gate: {latency_ms: {p50: 10000}}\n")
    assert run(copied) == 0


def test_an_undecided_gate_gives_status_3(copied: Path) -> None:
    measured = {(r["variant"], r["batch"]): r for r in report_of(copied)["speedups"]}
    row = measured["cpu-fp32", 2]
    middle = (row["low"] + row["high"]) / 2
    (copied / "recipe.yaml").write_text(RECIPE + f"gate: {{speedup: {middle}}}\n")
    assert run(copied) == 3
    before = report_of(copied)["environment"]["time"]
    assert run(copied) in (0, 1, 3)
    assert report_of(copied)["environment"]["time"] != before, "it is measured again"


def test_an_interrupted_run_goes_on_from_the_last_whole_stage(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "export_bundle", interrupted)
        assert run(project) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not (project / "out").exists()
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "reach", None)
        assert run(project) == 0
    verify_folder(project / "out")


def test_a_full_disk_is_one_line_and_the_old_output_stays(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_manifest(copied / "out")
    (copied / "recipe.yaml").write_text(RECIPE.replace("macs: 0.5", "macs: 0.6"))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(context, "save", full)
    assert run(copied) == 2
    message = capsys.readouterr().err
    assert "the disk is full" in message
    assert read_manifest(copied / "out") == before
    verify_folder(copied / "out")


def test_a_changed_target_makes_another_student(copied: Path) -> None:
    old = report_of(copied)["models"]["student"]["encoder_macs"]
    (copied / "recipe.yaml").write_text(RECIPE.replace("macs: 0.5", "macs: 0.3"))
    assert run(copied) == 0
    assert report_of(copied)["models"]["student"]["encoder_macs"] < 0.7 * old


def test_dry_run_writes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "--dry-run") == 0
    assert "50.0%" in capsys.readouterr().out
    assert not (project / "out").exists()
    assert not (project / "out.partial").exists()


# The other commands, on the same files.


def test_prune_export_evaluate_and_bench_work_in_turn(
    glue_like: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, student = glue_like, glue_like / "student"
    prune = ["prune", str(root / "teacher"), "--task", "sst2", "--data", str(root), "--macs", "0.5",
             "--steps", "1", "-o", str(student), "--json", "--sequence", "16", "--max-length",
             "16"]  # fmt: skip
    assert cli(prune) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["student"]["encoder_macs"] < facts["teacher"]["encoder_macs"]
    for name in ("teacher", "student"):
        export = ["export", str(root / name), "-o", str(root / f"{name}-onnx"), "--variant",
                  "cpu-fp32"]  # fmt: skip
        assert cli(export) == 0
    capsys.readouterr()
    evaluate = ["evaluate", str(root / "student-onnx"), "--against", str(root / "teacher-onnx"),
                "--task", "sst2", "--data", str(root), "--json"]  # fmt: skip
    assert cli(evaluate) == 0
    row = json.loads(capsys.readouterr().out)["accuracy"][0]
    assert row["examples"] == 20
    assert cli([*evaluate, "--retention", "5"]) == 2
    capsys.readouterr()
    bench = ["bench", str(root / "teacher-onnx"), str(root / "student-onnx"), "--batch", "1",
             "--sequence", "8", "--rounds", "8", "--json"]  # fmt: skip
    assert cli(bench) == 0
    result = json.loads(capsys.readouterr().out)
    assert [r["contender"] for r in result["latency"]] == [
        str(root / "teacher-onnx"), str(root / "student-onnx")
    ]  # fmt: skip
    assert cli([*bench, "--speedup", "1000"]) == 1


def test_scores_compares_every_score(glue_like: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["scores", str(glue_like / "teacher"), "--task", "sst2", "--data", str(glue_like),
                 "--sequence", "16", "--max-length", "16"]  # fmt: skip
    assert cli([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["scores"]
    assert [row["score"] for row in rows] == [
        "obs", "kprune", "fisher", "michel", "magnitude", "activation", "random"
    ]  # fmt: skip
    assert all(row["without_repair"] is not None for row in rows)


@pytest.fixture
def glue_like(tmp_path: Path) -> Path:
    """A tiny two-class teacher beside an SST-2 folder in the official layout."""
    tiny("bert", num_labels=2).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    (tmp_path / "SST-2").mkdir()
    for name, count in (("train", 40), ("dev", 20)):
        rows = [f"{f'w{i} ' * (1 + i % 5)}\t{i % 2}" for i in range(count)]
        text = "\n".join(["sentence\tlabel", *rows])
        (tmp_path / "SST-2" / f"{name}.tsv").write_text(text + "\n")
    return tmp_path


def test_demo_data_and_labels_fit_together() -> None:
    assert set(generate("train", 50).labels) == {"negative", "positive"}


def test_the_teacher_is_never_changed(finished: Path) -> None:
    assert torch.equal(logits(load(finished / "teacher")), logits(tiny("bert")))


def test_a_run_that_exports_portable_alone_is_reported_by_it(tmp_path: Path) -> None:
    write_project(tmp_path)
    text = RECIPE.replace("[cpu-fp32, portable]", "[portable]")
    (tmp_path / "recipe.yaml").write_text(text)
    assert run(tmp_path) == 0
    report = report_of(tmp_path)
    assert report["reference"]["variant"] == "portable"
    assert cli(["report", str(tmp_path / "out"), "--to", "markdown"]) == 0


def test_a_teacher_that_is_worse_than_its_commonest_class_passes_no_gate(tmp_path: Path) -> None:
    write_project(tmp_path)
    model = load(tmp_path / "teacher")
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 0.0, 9.0]))
    model.save_pretrained(tmp_path / "teacher")
    rows = [f"w{i} w{i + 1},{i % 2}" for i in range(40)]
    (tmp_path / "validation.csv").write_text("\n".join(["sentence,label", *rows]) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE + "gate: {speedup: 0.01}\n")
    assert run(tmp_path) == 3
    report = report_of(tmp_path)
    assert "the teacher is right on 0.0%" in report["remarks"][0]


def test_texts_of_an_earlier_run_do_not_stay_in_the_report(tmp_path: Path) -> None:
    write_project(tmp_path)
    silent = RECIPE.replace("rounds: 3", "disagreements: 0, rounds: 3")
    keys = [context.Context(parse_recipe(text), tmp_path).keys for text in (RECIPE, silent)]
    assert keys[0]["accuracy"] != keys[1]["accuracy"]
    assert keys[0]["prune"] == keys[1]["prune"]


def test_what_changed_while_a_run_went_on_is_not_sealed(
    copied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if another process had written the checkpoint meanwhile."""
    write = pipeline.write_report

    def disturbed(report: Any, text: str, folder: Path) -> None:
        (folder / "plan.json").write_text("{}")
        write(report, text, folder)

    monkeypatch.setattr(pipeline, "write_report", disturbed)
    (copied / "recipe.yaml").write_text(RECIPE + "gate: {speedup: 0.01}\n")
    assert run(copied) == 2
    assert "changed since stage 'prune' wrote it" in capsys.readouterr().err
