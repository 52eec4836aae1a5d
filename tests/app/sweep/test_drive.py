"""The loop between ledger, schedule and executor, with an executor that does as it is told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from compress.errors import RecipeError
from compress_export.stages import STEPS
from compress_export.sweep.axes import Common, Sweep
from compress_export.sweep.call import planned
from compress_export.sweep.drive import Driver
from compress_export.sweep.executor import Done
from compress_export.sweep.ledger import Entry, Ledger, own_sweep
from compress_export.sweep.schedule import Node, Place
from compress_export.sweep.search import Search, Trials
from compress_export.sweep.work import Outcome, Task

Answer = Callable[[Task, Place], Outcome | None]
A, B = Node(name="a", kind="small", cpus=2), Node(name="b", kind="large", cpus=2)


class Scripted:
    """Answers at once what a function says; keeps what was asked."""

    def __init__(self, answer: Answer, nodes: Sequence[Node]) -> None:
        self._answer, self._nodes = answer, list(nodes)
        self.asked: list[tuple[str, str, str]] = []
        self._ended: list[Done] = []

    def nodes(self, folder: str, mark: str) -> tuple[list[Node], list[str]]:
        return self._nodes, []

    def submit(self, task: Task, place: Place) -> None:
        self.asked.append((task.run, task.step, place.node))
        outcome = self._answer(task, place)
        if outcome is not None and outcome.fault is None and task.step == "bench":
            folder = Path(task.folder) / "runs" / task.run
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "report.json").write_text(json.dumps(REPORT))
        self._ended.append(Done(run=task.run, outcome=outcome))

    def wait(self, seconds: float) -> list[Done]:
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        pass


_ROW = {"variant": "cpu-fp32", "contender": "student", "batch": 1, "sequence": 8}
REPORT: dict[str, Any] = {
    "verdict": "pass",
    "reference": {"variant": "cpu-fp32", "batch": 1, "sequence": 8},
    "latency": [
        _ROW | {f"{p}_ms": 2.0 for p in ("p50", "p90", "p95", "p99")},
        _ROW | {"contender": "teacher", "p50_ms": 4.0},
    ],
    "speedups": [_ROW | {"ratio": 2.0, "low": 1.9, "high": 2.1}],
    "accuracy": [
        {"variant": "cpu-fp32", "metric": "accuracy", "teacher": 0.8, "student": 0.7,
         "retention": 0.9, "low": 0.8, "high": 1.0}
    ],
    "models": {m: {"encoder_parameters": 2, "encoder_macs": 2} for m in ("teacher", "student")},
    "size_bytes": {"cpu-fp32": 100},
}  # fmt: skip


def entry(name: str, **recipe: object) -> Entry:
    return Entry(run=name, key=name, labels={"seed": name}, recipe=dict(recipe))


def driven(
    folder: Path,
    answer: Answer,
    runs: Sequence[Entry],
    nodes: Sequence[Node] = (A, B),
    common: Common | None = None,
    guide: Callable[[Ledger], Trials] | None = None,
) -> tuple[Ledger, Scripted, list[str]]:
    own_sweep(folder, "mark")
    ledger, told = Ledger(folder), list[str]()
    ledger.open(runs)
    executor = Scripted(answer, nodes)
    Driver(
        common=common or Sweep(axes={"seed": [0]}),
        base=folder,
        ledger=ledger,
        mark="mark",
        store=None,
        executor=executor,
        jobs=1,
        tell=told.append,
        progress=lambda *_: None,
        guide=guide(ledger) if guide else None,
    )()
    return ledger, executor, told


def well(task: Task, place: Place) -> Outcome:
    return Outcome(seconds=1.0)


def test_steps_are_done_in_their_order(tmp_path: Path) -> None:
    ledger, executor, told = driven(tmp_path, well, [entry("one"), entry("two")])
    for run in ("one", "two"):
        assert [step for name, step, _ in executor.asked if name == run] == list(STEPS)
        assert ledger.entries[run].verdict == "pass"
    assert told == []
    assert {node for _, _, node in executor.asked} == {"a", "b"}


def test_what_is_lost_is_begun_again_from_its_step(tmp_path: Path) -> None:
    lost = iter([True, True])

    def answer(task: Task, place: Place) -> Outcome | None:
        return None if task.step == "export" and next(lost, False) else Outcome()

    ledger, executor, told = driven(tmp_path, answer, [entry("one")])
    assert [step for _, step, _ in executor.asked] == [
        "prune", "recover", "export", "export", "export", "evaluate", "bench",
    ]  # fmt: skip
    assert (ledger.entries["one"].tries, ledger.entries["one"].lost) == (0, 2)
    assert len(told) == 2
    nodes = [node for _, step, node in executor.asked if step == "export"]
    assert nodes[:2] == ["a", "b"], "what a node has lost goes to another, if there is one"


def test_what_is_lost_again_and_again_fails_and_the_rest_goes_on(tmp_path: Path) -> None:
    def answer(task: Task, place: Place) -> Outcome | None:
        return None if task.run == "one" else Outcome()

    ledger, _, told = driven(tmp_path, answer, [entry("one"), entry("two")])
    assert [e.state for e in ledger.entries.values()] == ["failed", "done"]
    assert "lost 3 times at prune" in told[-1]


def test_the_only_node_that_fits_is_tried_again(tmp_path: Path) -> None:
    lost = iter([True])

    def answer(task: Task, place: Place) -> Outcome | None:
        return None if task.step == "export" and next(lost, False) else Outcome()

    common = Sweep.model_validate({"axes": {"seed": [0]}, "resources": {"export": {"cpus": 4}}})
    large = Node(name="b", kind="large", cpus=4)
    ledger, _, _ = driven(tmp_path, answer, [entry("one")], nodes=(A, large), common=common)
    assert ledger.entries["one"].state == "done"


def test_a_node_where_a_run_cannot_be_is_avoided(tmp_path: Path) -> None:
    def answer(task: Task, place: Place) -> Outcome:
        return Outcome(error="the disk is full", fault="node") if place.node == "a" else Outcome()

    ledger, executor, told = driven(tmp_path, answer, [entry("one")])
    assert ledger.entries["one"].state == "done"
    assert [node for *_, node in executor.asked] == ["a"] + ["b"] * 5
    assert told == ["on a, at prune: the disk is full; what cannot be there goes elsewhere"]
    ledger, _, told = driven(tmp_path, answer, [entry("two")], nodes=(A,))
    assert ledger.entries["two"].error == "on a, at prune: the disk is full"
    assert told == ["two failed: on a, at prune: the disk is full"]


def test_a_measured_target_stays_on_its_kind_of_device(tmp_path: Path) -> None:
    runs = [entry(str(i), target={"speedup": 2}) for i in range(4)]
    ledger, executor, _ = driven(tmp_path, well, runs)
    for run in ledger.entries:
        assert len({node for name, _, node in executor.asked if name == run}) == 1


def test_each_kind_of_device_has_runs_of_its_own(tmp_path: Path) -> None:
    sweep = Sweep(recipe={}, axes={"seed": [0, 1]}, devices="each")
    call = planned(sweep, tmp_path, tmp_path / "plan", lambda *_: [A.kind, B.kind])
    assert len({found.key for found in call.left}) == 4
    _, executor, _ = driven(tmp_path / "out", well, call.left)
    kinds = {found.run: found.kind for found in call.left}
    assert all((node == "a") == (kinds[run] == "small") for run, _, node in executor.asked)
    assert {run for run, _, _ in executor.asked} == set(kinds)


def test_what_is_wrong_with_the_recipe_is_not_tried_again(tmp_path: Path) -> None:
    def answer(task: Task, place: Place) -> Outcome:
        return Outcome(error="bad", fault="bug", details="Traceback")

    ledger, executor, told = driven(tmp_path, answer, [entry("one")])
    assert len(executor.asked) == 1
    assert ledger.entries["one"].fault == "bug"
    assert (tmp_path / "ledger" / "one.traceback").read_text() == "Traceback"
    assert told == ["one failed: bad"]


def test_more_than_any_node_has_is_told(tmp_path: Path) -> None:
    common = Sweep.model_validate({"axes": {"seed": [0]}, "resources": {"export": {"cpus": 9}}})
    ledger, _, _ = driven(tmp_path, well, [entry("one")], common=common)
    assert "no node has what export takes (cpus 9)" in ledger.entries["one"].error


def test_no_node_at_all(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="found none"):
        driven(tmp_path, well, [entry("one")], nodes=())


def test_a_search_prunes_what_is_hopeless(tmp_path: Path) -> None:
    import optuna

    study = optuna.create_study(directions=["maximize", "minimize"])
    search = Search.model_validate(
        {"recipe": {"gate": {"retention": 0.9}}, "search": {"target.macs": {"low": 0.1, "high": 1}}}
    )

    def answer(task: Task, place: Place) -> Outcome:
        low = task.recipe["target"]["macs"] < 0.5
        rows = [{"high": 0.8 if low else 0.95}] if task.step == "evaluate" else []
        return Outcome(accuracy=rows)

    def guide(ledger: Ledger) -> Trials:
        return Trials(search=search, base=tmp_path, study=study, ledger=ledger, count=8, at_once=2)

    ledger, executor, _ = driven(tmp_path, answer, [], common=search, guide=guide)
    assert len(ledger.entries) == len(study.trials) == 8
    for trial, found in zip(study.trials, ledger.entries.values(), strict=True):
        low = trial.params["target.macs"] < 0.5
        assert trial.state.name == ("PRUNED" if low else "COMPLETE")
        assert found.state == ("pruned" if low else "done")
        assert ((found.run, "bench") in {(r, s) for r, s, _ in executor.asked}) is not low
        assert trial.values == (None if low else [0.9, 2.0])


def test_a_search_goes_on_while_others_wait_to_be_measured_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    optuna = pytest.importorskip("optuna")
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    search = Search.model_validate({"recipe": {}, "search": {"prune.score": ["michel", "random"]}})
    guides: list[Trials] = []

    def guide(ledger: Ledger) -> Trials:
        guides.append(
            Trials(search=search, base=tmp_path, study=study, ledger=ledger, count=9, at_once=2)
        )
        return guides[0]

    ledger, executor, _ = driven(tmp_path, well, [], nodes=(A,), common=search, guide=guide)
    keys = {found.key for found in ledger.entries.values()}
    assert len(keys) == len(ledger.entries) == 2, "a space of two recipes is soon known"
    states = Counter(trial.state.name for trial in study.trials)
    assert states["COMPLETE"] == 2
    assert states.keys() <= {"COMPLETE", "FAIL"}
    assert states["FAIL"] <= 60, "it asks again once something has ended, and not at every look"
    first = next(run for run, step, _ in executor.asked if step == "bench")
    begun = {run for run, _, _ in executor.asked[: executor.asked.index((first, "bench", "a"))]}
    assert len(begun) > 1


def test_what_a_kill_kept_from_a_study_is_told_to_it(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    study = optuna.create_study(directions=["maximize", "minimize"])
    search = Search.model_validate({"recipe": {}, "search": {"seed": [0, 1, 2, 3]}})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trials, "over", lambda *_: None)
        ledger, _, _ = driven(
            tmp_path, well, [], common=search,
            guide=lambda found: Trials(search=search, base=tmp_path, study=study, ledger=found,
                                       count=2, at_once=1),
        )  # fmt: skip
    names = [trial.state.name for trial in study.trials if trial.state.name != "FAIL"]
    assert names == ["RUNNING", "RUNNING"]
    Trials(search=search, base=tmp_path, study=study, ledger=ledger, count=2, at_once=1)
    names = [trial.state.name for trial in study.trials if trial.state.name != "FAIL"]
    assert names == ["COMPLETE", "COMPLETE"]
