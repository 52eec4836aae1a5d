"""Whole sweeps of tiny runs: what they leave, repeat, survive and refuse."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from compress_export.pipeline import Run
from compress_export.stages import STEPS, Step, file_hashes
from compress_export.sweep import executor as executors
from compress_export.sweep.ledger import open_sweep
from compress_export.sweep.store import Store
from compress_export.sweep.work import Task, unfinished, work
from tests.app.sweep.project import SWEEP, sweep, write_project
from tests.app.test_pipeline import cli
from tests.families import tiny


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep with a store; tests that change it work on a copy."""
    folder = write_project(tmp_path_factory.mktemp("sweep"))
    assert sweep(folder, "--jobs", "2", "--store", str(folder / "store")) == 0
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(executors.LocalExecutor, "submit", refuse)


def test_every_run_is_whole_and_in_the_table(finished: Path) -> None:
    out = finished / "out"
    table = pq.read_table(out / "data" / "runs.parquet").to_pylist()
    assert [row["axis.target.macs"] for row in table] == ["0.5", "0.7"]
    for row in table:
        report = json.loads((out / "runs" / row["run"] / "report.json").read_text())
        assert row["encoder_macs_kept"] == pytest.approx(
            report["models"]["student"]["encoder_macs"]
            / report["models"]["teacher"]["encoder_macs"]
        )
        assert row["p50_ms"] > 0
        assert {row[f"node.{step}"] for step in ("prune", "export", "bench")} == {"this machine"}
    page = (out / "report.md").read_text()
    assert "Pareto" in page
    assert "What each choice adds" in page
    assert (out / "figures" / "pareto.svg").read_text().startswith("<svg")


@pytest.mark.usefixtures("no_work")
def test_the_same_call_again_does_nothing(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Axes are relative to the file, so that a copy is the same sweep.
    monkeypatch.chdir(copied)
    assert sweep(copied) == 0
    assert "2 runs" in capsys.readouterr().out


def test_the_same_call_again_needs_no_torch(finished: Path) -> None:
    code = (
        "import sys; from compress_export.cli import app; "
        "from compress_export.exits import run_app; "
        f"status = run_app(app, ['sweep', 'run', {str(finished / 'sweep.yaml')!r}, "
        f"'-o', {str(finished / 'out')!r}]); "
        "sys.exit(status or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.usefixtures("no_work")
def test_a_run_is_known_by_what_it_is_and_not_by_its_label(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied / "sweep.yaml"
    named = SWEEP.replace("model: [bert]", "teacher: [{name: mine, model: bert}]")
    path.write_text(named.replace(", 0.7]", "]"))
    assert sweep(copied) == 0
    assert "1 run of an earlier call" in capsys.readouterr().err.replace("\n", " ")
    (entry,) = open_sweep(copied / "out").entries.values()
    assert entry.labels == {"teacher": "mine", "target.macs": 0.5}
    assert (copied / "out" / "runs" / entry.run / "report.json").is_file()
    path.write_text(SWEEP.replace("0.5, 0.7", "0.9"))
    before = file_hashes([copied / "out"], copied)
    assert sweep(copied) == 2
    assert "finished runs of other recipes" in capsys.readouterr().err.replace("\n", " ")
    assert file_hashes([copied / "out"], copied) == before


@pytest.mark.usefixtures("no_work")
def test_what_the_store_has_is_not_done_again(copied: Path) -> None:
    shutil.rmtree(copied / "out")
    assert sweep(copied, "--store", str(copied / "store")) == 0
    for entry in open_sweep(copied / "out").entries.values():
        assert (copied / "out" / "runs" / entry.run / "onnx" / "cpu-fp32" / "model.onnx").is_file()


def test_a_dry_run_tells_what_is_left_and_writes_nothing(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file_hashes([copied / "out"], copied)
    assert sweep(copied, "--dry-run") == 0
    assert "2 runs, 0 to do" in capsys.readouterr().out
    tiny("bert", seed=2).save_pretrained(copied / "bert")
    assert sweep(copied, "--dry-run") == 0
    assert "2 runs, 2 to do, about" in capsys.readouterr().out
    assert sweep(copied, "--dry-run", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in rows] == ["waiting", "waiting"]
    assert all(row["forecast"]["total_seconds"] > 0 for row in rows)
    assert file_hashes([copied / "out"], copied) == before
    (copied / "bert").rename(copied / "moved")
    assert sweep(copied, "--dry-run") == 2
    assert "cannot be done here" in capsys.readouterr().err
    (copied / "sweep.yaml").write_text(SWEEP.replace("score: magnitude", "score: guess"))
    assert sweep(copied, "--dry-run") == 2
    assert cli(["sweep", "run", str(copied / "sweep.yaml"), "-o", "s3://bucket/out"]) == 2
    assert "must be a local folder" in capsys.readouterr().err


def test_the_best_is_copied_out(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(finished / "out")
    assert cli(["sweep", "best", out, "--by", "size", "-o", str(tmp_path / "best"), "--json"]) == 0
    winner = json.loads(capsys.readouterr().out)
    assert winner["axis.target.macs"] == "0.5"
    report = json.loads((tmp_path / "best" / "report.json").read_text())
    assert report["recipe"]["target"]["macs"] == 0.5
    assert cli(["sweep", "best", out, "--gate", "size_mb=1000"]) == 0
    assert cli(["sweep", "best", out, "--gate", "speedup=1000"]) == 1
    assert "no run is surely within" in capsys.readouterr().err
    assert cli(["sweep", "best", out, "--gate", "latency_ms.p99=1000"]) == 1
    assert "latency_ms.p99 is not known for sure; a percentile takes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--gate", "accuracy=0.9"], "found 'accuracy=0.9'"),
        (["--gate", "retention=much"], "found 'retention=much'"),
        (["--by", "speed"], "--by must be among"),
        ([], "neither --gate nor --by"),
        (["--by", "size", "--where", "macs=0.5"], "target.macs"),
        (["--by", "size", "--where", "target.macs=0.6"], "found target.macs 0.5, 0.7"),
        (["--gate", "size_mb=-1"], "the number above 0"),
    ],
)
def test_best_says_what_is_wrong(
    finished: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str
) -> None:
    assert cli(["sweep", "best", str(finished / "out"), *more]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "more", "told"),
    [
        (SWEEP.replace("score: magnitude", "score: guess"), [], "run bert-"),
        ("axes: [", [], "sweep.yaml ("),
        (SWEEP, ["--executor", "slurm"], "--executor must be among local, ray"),
        (SWEEP, ["--address", "10.0.0.1:6379"], "--address goes with --executor ray"),
        (SWEEP, ["--store", "nosuch://bucket"], "nosuch://bucket"),
    ],
)
def test_what_is_wrong_is_found_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, more: list[str], told: str
) -> None:
    write_project(tmp_path)
    (tmp_path / "sweep.yaml").write_text(text)
    assert sweep(tmp_path, *more) == 2
    assert told in capsys.readouterr().err


def test_other_files_are_never_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_project(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert sweep(tmp_path) == 2
    assert "found other files" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_run_that_fails_is_told_and_the_rest_goes_on(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SWEEP.replace("model: [bert]", "model: [bert, missing]")
    (copied / "sweep.yaml").write_text(text)
    assert sweep(copied) == 2
    told = capsys.readouterr()
    assert told.err.count("missing-0.5-") == 1
    assert "on this machine, at prune" in told.err
    entries = open_sweep(copied / "out").entries.values()
    assert sorted(e.state for e in entries) == ["done", "done", "failed", "failed"]
    assert "Runs that failed" in (copied / "out" / "report.md").read_text()


def test_two_calls_in_one_folder_and_a_killed_worker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sweep runs; another in its folder is refused; its worker is killed; it ends well."""
    write_project(tmp_path)
    arguments = ["sweep", "run", str(tmp_path / "sweep.yaml"), "-o", str(tmp_path / "out")]
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(
            [sys.executable, "-m", "compress_export", *arguments, "--jobs", "1"], stderr=log
        )
        wait_for(lambda: list((tmp_path / "out" / "runs").glob("*.partial")))
        assert sweep(tmp_path) == 2
        assert f"process {first.pid}" in capsys.readouterr().err
        _kill_worker(first.pid)
        assert first.wait(240) == 0
    assert "begun again from there" in (tmp_path / "log").read_text()
    entries = open_sweep(tmp_path / "out").entries.values()
    assert [entry.state for entry in entries] == ["done", "done"]
    assert sum(entry.lost for entry in entries) == 1


def wait_for(seen: object, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not seen():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _kill_worker(parent: int) -> None:
    """Kill the process that works for `parent`."""
    import psutil

    children = psutil.Process(parent).children()
    busiest = max(children, key=lambda child: sum(child.cpu_times()[:2]))
    os.kill(busiest.pid, signal.SIGKILL)


def test_ctrl_c_stops_and_a_second_call_goes_on(tmp_path: Path) -> None:
    write_project(tmp_path)
    command = [sys.executable, "-m", "compress_export", "sweep", "run"]
    command += [str(tmp_path / "sweep.yaml"), "-o", str(tmp_path / "out"), "--jobs", "1"]
    with (tmp_path / "log").open("w") as log:
        heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # whoever started pytest
        first = subprocess.Popen(command, stderr=log, start_new_session=True, preexec_fn=heeds)
        wait_for(lambda: list((tmp_path / "out" / "runs").glob("*.partial/stages/prune.json")))
        os.killpg(first.pid, signal.SIGINT)
        assert first.wait(60) == 130
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said
    assert "resource_tracker" not in said
    begun = next((tmp_path / "out" / "runs").glob("*.partial/stages/prune.json"))
    run, before = begun.parents[1].name.removesuffix(".partial"), begun.stat().st_mtime_ns
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    entries = open_sweep(tmp_path / "out").entries.values()
    assert [entry.state for entry in entries] == ["done", "done"]
    kept = tmp_path / "out" / "runs" / run / "stages" / "prune.json"
    assert kept.stat().st_mtime_ns == before


def test_nodes_that_do_not_see_the_folder_hand_a_run_over_through_the_store(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step on a node of its own; the result is that of the node that sees everything."""
    (entry, *_) = open_sweep(finished / "out").entries.values()
    store = tmp_path / "store"
    has: list[int] = []
    plain = Run.do

    def do(run: Run, step: Step) -> None:
        has.append(len(list(node.rglob("stages/*.json"))))
        plain(run, step)

    monkeypatch.setattr(Run, "do", do)
    for number, step in enumerate(STEPS):
        node = tmp_path / f"node-{number}"
        if step == STEPS[-1]:  # it was here before, and was lost
            shutil.copytree(tmp_path / "early", node)
        node.mkdir(exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(node))
        task = Task(
            run=entry.run, key=entry.key, step=step, recipe=entry.recipe, base=str(finished),
            folder=str(tmp_path / "unseen"), mark="mark", store=str(store),
        )  # fmt: skip
        outcome = work(task)
        assert outcome.fault is None, outcome.error + outcome.details
        if step == STEPS[0]:
            scratch = tmp_path / "early" / "compress-export-sweeps" / "mark"
            Store(str(store)).pull(unfinished(entry.key, "mark"), scratch / f"{entry.run}.partial")
    assert has == sorted(has), "every node begins with all that was done before"
    assert has[-1] > 1
    assert not list(node.rglob("report.json")), "nothing is left on a node"
    assert [p.name for p in store.iterdir()] == [entry.key]
    here, pulled = finished / "out" / "runs" / entry.run, tmp_path / "pulled"
    assert Store(str(store)).pull(entry.key, pulled)
    for part in ("checkpoint", "plan.json"):
        hashes = (file_hashes([root / part], root) for root in (here, pulled))
        assert next(hashes) == next(hashes)
    alone = replace(task, store=None, step=STEPS[0])
    assert "name a --store" in work(alone).error
