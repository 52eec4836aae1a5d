"""What a second call finds in a sweep's folder: runs by what they are, whatever they are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compress.errors import BundleError
from compress.files.folder import MANIFEST
from compress_export.sweep.ledger import Entry, Ledger, own_sweep


def run(name: str, key: str, model: str = "bert", axis: str = "model") -> Entry:
    return Entry(run=name, key=key, labels={axis: name}, recipe={"model": model})


def call(folder: Path, *wanted: Entry, finish: bool = True) -> Ledger:
    """A call of a sweep, all of whose runs come to their end."""
    own_sweep(folder, "mark")
    ledger = Ledger(folder)
    ledger.open(wanted)
    for entry in ledger.in_state("waiting") if finish else ():
        report = {"verdict": "pass", "environment": {"cpu": "c", "cores": 2, "gpu": None}}
        (folder / "runs" / entry.run).mkdir()
        (folder / "runs" / entry.run / "report.json").write_text(json.dumps(report))
        (folder / "runs" / entry.run / MANIFEST).write_text("{}")
        ledger.put(ledger.finished(entry))
    return ledger


def states(ledger: Ledger) -> dict[str, str]:
    return {entry.run: entry.state for entry in ledger.entries.values()}


def test_a_run_that_was_left_out_is_found_again(tmp_path: Path) -> None:
    call(tmp_path, run("a", "1"), run("b", "2", "roberta"))
    assert call(tmp_path, run("a", "1")).left_out == ["b"]
    assert call(tmp_path, run("a", "1")).left_out == [], "it has been said"
    assert states(call(tmp_path, run("b", "2", "roberta"), finish=False)) == {"b": "done"}


def test_what_is_the_same_under_another_name_takes_it(tmp_path: Path) -> None:
    call(tmp_path, run("a", "1"))
    ledger = call(tmp_path, run("mine", "1", "elsewhere/bert"), finish=False)
    (entry,) = ledger.entries.values()
    assert (entry.state, entry.recipe) == ("done", {"model": "elsewhere/bert"})
    assert ledger.report("mine")["verdict"] == "pass"
    assert states(call(tmp_path, run("a", "1"), finish=False)) == {"a": "done"}, "and back"


def test_a_renamed_axis_renames_what_is_done(tmp_path: Path) -> None:
    call(tmp_path, run("a", "1"))
    (entry,) = call(tmp_path, run("a", "1", axis="teacher"), finish=False).entries.values()
    assert (entry.state, entry.labels) == ("done", {"teacher": "a"})


def test_two_of_one_key_share_nothing(tmp_path: Path) -> None:
    call(tmp_path, run("a", "1"))
    ledger = call(tmp_path, run("b", "1"), run("c", "1"), finish=False)
    assert states(ledger) == {"b": "done", "c": "waiting"}


def test_other_recipes_are_refused_and_another_model_is_not(tmp_path: Path) -> None:
    call(tmp_path, run("a", "1"))
    with pytest.raises(BundleError, match="1 finished runs of other recipes"):
        call(tmp_path, run("b", "2", "roberta"))
    assert states(call(tmp_path, run("a-anew", "3"), finish=False)) == {"a-anew": "waiting"}


def test_what_an_interrupted_call_has_torn_is_to_be_done(tmp_path: Path) -> None:
    call(tmp_path, run("a", "1"), run("b", "2"))
    (tmp_path / "ledger" / "b.json").write_text("{")
    (tmp_path / "ledger" / "a.json").unlink()
    ledger = call(tmp_path, run("a", "1"), run("b", "2"), finish=False)
    assert states(ledger) == {"a": "waiting", "b": "waiting"}
