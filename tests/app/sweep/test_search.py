"""Searches over recipes, whole."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from compress_export.sweep.ledger import own_sweep
from tests.app.sweep.project import SWEEP, write_project
from tests.app.test_pipeline import cli

SEARCH = SWEEP[: SWEEP.index("axes:")].replace("recipe:\n", "recipe:\n  model: bert\n") + (
    "search:\n  target.macs: {low: 0.4, high: 0.8}\n  prune.score: [magnitude, random]\n"
)


def search(project: Path, *more: str) -> int:
    return cli(["sweep", "search", str(project / "search.yaml"), "-o", str(project / "found"),
                *more])  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (SEARCH.replace("prune.score", "prune.scor"), "'prune.scor' is unknown"),
        (SEARCH.replace("low: 0.4", "low: 0.9"), "low must be below high"),
        (SEARCH.replace("target.macs: {low: 0.4, high: 0.8}", "prune.steps: {low: 1, high: 2.5}"),
         "prune.steps"),
        (SWEEP, "'axes' is unknown"),
        ("recipe: {}", "'search' is required"),
        (SEARCH.replace("low: 0.4", "lowest: 0.4"), "known here: low, high, step, log"),
    ],
)  # fmt: skip
def test_a_wrong_search_is_told_before_any_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    project = write_project(tmp_path)
    (project / "search.yaml").write_text(text)
    assert search(project) == 2
    assert told in capsys.readouterr().err
    assert not (project / "found").exists()
    (project / "search.yaml").write_text(SEARCH)
    own_sweep(project / "out", "mark", "grid")
    assert cli(["sweep", "search", str(project / "search.yaml"), "-o", str(project / "out")]) == 2
    assert "found one of a grid" in capsys.readouterr().err


def test_a_store_that_cannot_be_opened_leaves_the_folder_free(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = write_project(tmp_path)
    (project / "search.yaml").write_text(SEARCH)
    assert search(project, "--storage", "nosuch://me:secret@host/x") == 2
    found = capsys.readouterr().err
    assert "found nosuch://me:…@host/x" in found
    assert "secret" not in found
    assert not (project / "found" / "study.json").exists()


def test_a_search_tells_optuna_what_it_found_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import optuna

    project = write_project(tmp_path)
    (project / "search.yaml").write_text(SEARCH)
    storage = f"sqlite:///{project / 'trials.db'}"
    assert search(project, "--trials", "1", "--storage", storage) == 0
    assert search(project, "--trials", "2", "--storage", storage) == 0
    trials = optuna.load_study(study_name="search", storage=storage).trials
    rows = pq.read_table(project / "found" / "data" / "runs.parquet").to_pylist()
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE"]
    for trial, row in zip(trials, rows, strict=True):
        assert trial.values[0] == pytest.approx(row["retention"])
        assert trial.values[1] == pytest.approx(rows[0]["teacher_ms"] / row["speedup"])
        assert row["axis.prune.score"] == trial.params["prune.score"]
    assert search(project, "--trials", "3", "--storage", storage, "--name", "other") == 2
    assert "one study" in capsys.readouterr().err
    (project / "search.yaml").write_text(SEARCH.replace("magnitude", "activation"))
    assert search(project, "--trials", "3", "--storage", storage) == 2
    assert "other choices" in capsys.readouterr().err
