"""The commands that measure, judge and show, and the CI files that call them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.gate import at_least
from compress_export.cli import app
from compress_export.contenders import parse_entry
from compress_export.cuda_libraries import first_missing, remedy
from compress_export.exits import run_app
from export.bundle import export_bundle
from export.precision.variants import VARIANTS
from tests.app.test_pipeline import write_csv
from tests.benchmarks.reports import made_up
from tests.families import tiny
from tests.tokenizer import tiny_tokenizer

ROOT = Path(__file__).parents[2]
TASK = "{train: train.csv, validation: validation.csv, text: [sentence], label: label}"
QUICK = ("--batch", 1, "--sequence", 8, "--seconds", 0.2, "--rounds", 12)


def cli(*arguments: object) -> int:
    return run_app(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, its bundle, another of the same, and data."""
    folder = tmp_path_factory.mktemp("made")
    for name, seed in (("teacher", 0), ("other", 1)):
        model = tiny("bert", seed=seed)
        model.save_pretrained(folder / name)
        tiny_tokenizer().save_pretrained(folder / name)
        wanted = [v for v in VARIANTS if v.name in ("portable", "cpu-fp32")]
        export_bundle(model, tiny_tokenizer(), wanted, folder / f"{name}-onnx" / "onnx")
    write_csv(folder / "train.csv", 20)
    write_csv(folder / "validation.csv", 40)
    (folder / "task.yaml").write_text(TASK)
    return folder


@pytest.fixture
def project(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for item in made.iterdir():
        (tmp_path / item.name).symlink_to(item)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(report: dict[str, Any], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def test_bench_measures_bundles_checkpoints_and_accuracy_in_one_report(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contenders = ("dense=teacher-onnx", "plain=teacher-onnx@portable", "eager=torch:teacher",
                  "other-onnx")  # fmt: skip
    assert cli("bench", *contenders, *QUICK, "--task", "task.yaml", "--out", "out") == 0
    assert "other-onnx" in capsys.readouterr().out
    report = json.loads(Path("out/report.json").read_text())
    rows = [(row["contender"], row["variant"]) for row in report["latency"]]
    assert rows == [
        ("dense", "cpu-fp32"), ("plain", "portable"), ("eager", "torch"), ("other-onnx", "cpu-fp32")
    ]  # fmt: skip
    assert [row["contender"] for row in report["speedups"]] == ["plain", "eager", "other-onnx"]
    assert all(row["p99_ms"] is None for row in report["latency"])  # 12 rounds carry no p99
    assert all(row["floor_ms"] for row in report["latency"] if row["variant"] != "torch")
    kept = {row["contender"]: row["retention"] for row in report["accuracy"]}
    assert kept["plain"] == kept["eager"] == 1.0
    assert "dense" in Path("out/report.html").read_text()


def test_bench_in_processes_of_their_own(project: Path) -> None:
    assert cli("bench", "teacher-onnx", "other-onnx", *QUICK, "--isolate", "--out", "out") == 0
    assert json.loads(Path("out/report.json").read_text())["environment"]["isolated"]


def test_bench_against_itself_counts_false_alarms(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("bench", "teacher-onnx", *QUICK, "--aa", "--runs", 2, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"] == 2
    assert 0 <= found["simulated_alarms"] <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("teacher-onnx", "teacher-onnx"), "must differ in name or variant"),
        (("tensorflow:teacher-onnx",), "runtime must be one of"),
        (("teacher-onnx", "--device", "tpu"), "--device must be cpu, cuda, tensorrt"),
        (("teacher-onnx", "--precision", "2x"), "--precision must be a share"),
        (("teacher-onnx", "other-onnx", "--aa"), "found 2; name one"),
        (("teacher-onnx", "--aa", "--batch", 1, "--batch", 2), "one workload, found 2"),
        (("teacher-onnx", "--runs", 3), "--runs needs --aa"),
        (("teacher-onnx", "--threads", "999"), "--threads must be between 1"),
        (("teacher-onnx@cpu-int4",), "the variant 'cpu-int4'"),
        (("torch:nowhere",), "config.json must be readable"),
        (("teacher-onnx", "--speedup", "2"), "needs two contenders"),
    ],
)
def test_wrong_contenders_are_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert cli("bench", *arguments) == 2
    found = capsys.readouterr().err
    assert message in found
    assert len(found.strip().splitlines()) == 1


def test_a_path_with_signs_in_it_is_still_a_path(project: Path) -> None:
    for name in ("a=b", "x@y"):
        Path(name).symlink_to("teacher-onnx")
        assert parse_entry(name).name == name


def test_load_tells_each_scenario(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mlperf_loadgen")
    options = ("--task", "task.yaml", "--seconds", 0.2, "--max-length", 16, "--json")
    assert cli("load", "teacher-onnx", "--scenario", "offline", *options, "--out", "load") == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["scenario"] for row in found["load"]] == ["offline"]
    assert Path("load/report.html").is_file()
    assert cli("load", "teacher-onnx", "--scenario", "burst", *options) == 2
    assert cli("load", "teacher-onnx", "--seconds", 0.2) == 2


def test_check_passes_equals_and_fails_a_regression(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = written(made_up(seed=1), project / "main")
    same = written(made_up(seed=2), project / "same")
    slow = written(made_up(slower=1.2, seed=3), project / "slow")
    options = ("--baseline", main, "--retention", "5%")
    assert cli("check", same, *options) == 0
    files = ("--junit", "gates.xml", "--summary", "summary.md")
    assert cli("check", slow, *options, *files, "--json") == 1
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["verdict"] == "fail"
    assert "<failure" in Path("gates.xml").read_text()
    assert "❌" in Path("summary.md").read_text()
    assert cli("check", slow, *options, "--latency", "30%") == 0


def test_a_limit_that_cannot_be_judged_is_never_a_pass(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = written(made_up(), project / "now")
    assert cli("check", now, "--retention", "1%") == 2
    assert "--retention needs --baseline" in capsys.readouterr().err
    bare = written(made_up() | {"accuracy": []}, project / "bare")
    assert cli("check", now, "--baseline", bare, "--retention", "1%") == 3
    assert "retention, not measured in both" in capsys.readouterr().out
    assert cli("check", now, "--baseline", now, "--junit", project / "no/x.xml") == 2
    assert "--junit must be a file" in capsys.readouterr().err


def test_check_reads_its_limits_from_the_recipe(project: Path) -> None:
    main = written(made_up(seed=1), project / "main")
    loose = {"gate": {"regression": {"latency": 0.5, "retention": None}}}
    slow = made_up(slower=1.2, seed=3) | {"recipe": loose}
    assert cli("check", written(slow, project / "slow"), "--baseline", main) == 0


def test_a_limit_of_the_recipe_that_cannot_be_judged_is_never_a_pass(project: Path) -> None:
    main = written(made_up(seed=1), project / "main")
    wants_load = {"gate": {"regression": {"throughput": 0.05}}}
    now = written(made_up(seed=3) | {"recipe": wants_load}, project / "now")
    assert cli("check", now, "--baseline", main) == 3


def test_predictions_beside_both_reports_make_retention_exact(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = ("bench", "teacher=teacher-onnx", "student=other-onnx", *QUICK, "--task", "task.yaml")
    for out in ("main", "now"):
        assert cli(*bench, "--out", out) == 0
        assert (Path(out) / "predictions.npz").is_file()
    capsys.readouterr()
    cli("check", "now", "--baseline", "main", "--json")
    gates = json.loads(capsys.readouterr().out)["gates"]
    kept = [gate for gate in gates if gate["name"].startswith("retention")]
    assert len(kept) == 2
    for gate in kept:
        assert (gate["value"], gate["low"], gate["high"], gate["verdict"]) == (0, 0, 0, "pass")


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '{"schema": 9, "verdict": 1, "environment": {}}']
)
def test_what_is_no_report_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "report.json").write_text(content)
    assert cli("check", tmp_path) == 2
    assert "report.json must be" in capsys.readouterr().err


def test_report_writes_other_formats_and_the_average(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = written(made_up(), project / "one")
    assert cli("report", one, "--to", "openmetrics", "-o", "m.txt") == 0
    assert Path("m.txt").read_text().endswith("# EOF\n")
    assert cli("report", one, "-o", "page.html") == 0
    assert "<svg" in Path("page.html").read_text()
    mrpc = [row | {"task": "mrpc"} for row in made_up()["accuracy"]]
    two = written(made_up() | {"accuracy": mrpc}, project / "two")
    assert cli("report", one, two, "--to", "markdown") == 0
    assert "| average |" in capsys.readouterr().out
    assert cli("report", one, one, "--to", "markdown") == 2
    assert "another task" in capsys.readouterr().err
    assert cli("report", one, "--to", "pdf") == 2
    assert cli("report", one, two, "--to", "junit") == 2


def test_history_draws_reports_in_order_of_time(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for day, slower in ((2, 1.3), (1, 1.0)):
        report = made_up(slower=slower)
        place = report["environment"] | {"time": f"2026-01-0{day}", "commit": f"c{day}"}
        written(report | {"environment": place}, project / f"runs/{3 - day}")
    assert cli("history", "runs", "-o", "history.html", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reports"] == ["c1", "c2"]
    assert "<svg" in Path("history.html").read_text()
    assert cli("history", project / "runs/1") == 2


def test_a_missing_library_is_named_with_its_package() -> None:
    message = "libcublasLt.so.13: cannot open shared object file: No such file or directory"
    library = first_missing(message)
    assert library == "libcublasLt.so.13"
    assert "nvidia-cublas" in remedy(library)
    assert remedy("libnvinfer.so.10") == "pip install tensorrt"
    assert first_missing("undefined symbol: x") is None


# The CI files: their own commands, run here.


def shell(script: str, folder: Path, **variables: object) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path} | {k: str(v) for k, v in variables.items()}
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script], cwd=folder, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("slower", "arguments", "status", "verdict"),
    [(1.0, "--retention 5%", 0, "pass"), (1.2, "--retention 5%", 1, "fail"),
     (1.0, "", 3, "inconclusive")],
)  # fmt: skip
def test_the_github_action_gives_the_verdict_and_the_status(
    tmp_path: Path, slower: float, arguments: str, status: int, verdict: str
) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    (check,) = [step for step in action["runs"]["steps"] if step.get("id") == "check"]
    variables = {
        "REPORT": written(made_up(slower=slower, seed=2), tmp_path / "now"),
        "BASELINE": written(made_up(seed=1), tmp_path / "main"),
        "PINNED": "",
        "ARGUMENTS": arguments,
        "INCONCLUSIVE": "fail",
        "JUNIT": tmp_path / "gates.xml",
        "GITHUB_STEP_SUMMARY": tmp_path / "summary.md",
        "GITHUB_OUTPUT": tmp_path / "output",
    }
    assert set(check["env"]) <= set(variables)
    done = shell(check["run"], tmp_path, **variables)
    assert done.returncode == status, done.stderr
    assert (tmp_path / "output").read_text() == f"verdict={verdict}\n"
    assert verdict in (tmp_path / "summary.md").read_text()
    assert (tmp_path / "gates.xml").is_file()


def test_the_github_action_waits_for_a_first_baseline(tmp_path: Path) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    script = action["runs"]["steps"][-1]["run"]
    done = shell(
        script, tmp_path, REPORT=written(made_up(), tmp_path / "now"), BASELINE="none.json",
        ARGUMENTS="--retention 1%", INCONCLUSIVE="fail", JUNIT="gates.xml",
        GITHUB_STEP_SUMMARY="summary.md",
        GITHUB_OUTPUT="output",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no baseline at none.json yet" in done.stderr


RECIPE = """
model: ./teacher
task: {train: train.csv, validation: validation.csv, text: [sentence], label: label}
target: {macs: 0.6, sequence: 12, batch: 2}
prune: {score: fisher, calibration_examples: 32, steps: 1, round_to: 4}
export: {variants: [cpu-fp32]}
benchmark: {batches: [1], sequences: [8], rounds: 12, seconds: 0.2, max_length: 16}
gate: {regression: {latency: null, memory: null, retention: 0.5}}
"""


def test_the_workflow_and_the_gitlab_job_run_a_recipe_twice(project: Path) -> None:
    (project / "recipe.yaml").write_text(RECIPE)
    workflow = yaml.safe_load((ROOT / ".github/workflows/report.yml").read_text())
    steps = {step.get("name"): step for step in workflow["jobs"]["report"]["steps"]}
    variables = {"RECIPE": "recipe.yaml", "ARGUMENTS": "", "GITHUB_STEP_SUMMARY": "summary.md"}
    for name in ("Run", "Check", "Keep"):
        done = shell(steps[name]["run"], project, **variables)
        assert done.returncode == 0, done.stderr
    assert (project / "baseline/predictions.npz").is_file()
    job = yaml.safe_load((ROOT / "ci/gitlab.yml").read_text())[".compress-export"]
    branch = {"CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main"}
    done = shell("\n".join(job["script"]), project, **(variables | branch))
    assert done.returncode == 0, done.stderr
    assert "retention" in (project / "compress-export.xml").read_text()
    assert (project / "metrics.txt").is_file()
    shutil.rmtree(project / "out")


def test_small_losses_add_up_against_a_pinned_baseline(tmp_path: Path) -> None:
    """4 % a push: each is within the limit of the last, and all together are not."""
    first, last, now = (
        written(made_up(slower=slower, seed=seed), tmp_path / name)
        for name, slower, seed in (("first", 1.0, 1), ("last", 1.12, 2), ("now", 1.16, 3))
    )
    options = ["--latency", "10%", "--retention", "10%"]
    assert cli("check", now, "--baseline", last, *options) == 0
    assert cli("check", now, "--baseline", last, "--pinned", first, *options) == 1


def test_a_limit_is_not_judged_by_a_promise_of_that_name(tmp_path: Path) -> None:
    promised = made_up(seed=1)
    promised["gates"] = [at_least("retention", 0.9, 0.98, 0.97, 0.99).to_dict()]
    bare = made_up(seed=2) | {"accuracy": []}
    now, then = written(promised, tmp_path / "now"), written(bare, tmp_path / "then")
    assert cli("check", now, "--baseline", then, "--retention", "1%") == 3
