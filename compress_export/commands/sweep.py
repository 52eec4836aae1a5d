"""`sweep …`: plan the runs, drive them, write what they found; copy the best one out."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from compress.errors import RecipeError
from compress.files.folder import check_target, replace_folder, verify_folder
from compress_export.console import counted, note, table
from compress_export.console import out as console
from compress_export.exits import STATUS
from compress_export.sweep.axes import Common, load_file, load_sweep
from compress_export.sweep.call import Call, kinds_of, locked, opened, planned
from compress_export.sweep.choose import AIMS, Aim, best, parse_bound, rivals
from compress_export.sweep.drive import Driver
from compress_export.sweep.executor import Executor, LocalExecutor
from compress_export.sweep.ledger import Entry, open_sweep
from compress_export.sweep.preview import print_plan
from compress_export.sweep.results import Row, axis_column, rows_of
from compress_export.sweep.search import Search, Trials, corners, open_study
from compress_export.sweep.show import shown
from compress_export.sweep.store import Store
from export.graph.session import usable_cores

_EXECUTORS = ("local", "ray")
_MOST_JOBS, _MOST_NAMED = 4, 3
_BY_FAULT = {"bug": 70, "input": 2, "node": 2, "promise": 1}
_WORST_FIRST = (70, 2, 1, 3, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Workplace:
    """Where a sweep works.

    Attributes:
        executor: `local` or `ray`.
        address: Of a cluster.
        jobs: Steps at once on a node.
        store: Where finished runs are shared.
    """

    executor: str
    address: str | None
    jobs: int | None
    store: str | None

    def __post_init__(self) -> None:
        known = ", ".join(_EXECUTORS)
        if self.executor not in _EXECUTORS:
            raise RecipeError(f"--executor must be among {known}, found {self.executor!r}")
        if self.executor == "local" and self.address is not None:
            raise RecipeError("--address goes with --executor ray, found local; leave one out")

    @property
    def at_once(self) -> int:
        """Steps at once on a node."""
        return self.jobs or min(_MOST_JOBS, usable_cores())

    def opened_store(self) -> Store | None:
        """The store, by a path or URL that means the same on every node."""
        if self.store is None:
            return None
        return Store(self.store if "://" in self.store else str(Path(self.store).resolve()))

    @contextmanager
    def opened(self) -> Iterator[Callable[[], Executor]]:
        """Gives the executor when it is first asked for, and closes it if it was."""
        made: list[Executor] = []

        def executor() -> Executor:
            if not made:
                made.append(_executor(self.executor, self.address, shares=self.store is not None))
            return made[0]

        try:
            yield executor
        finally:
            for one in made:
                one.close()


def run(path: Path, out: Path, where: Workplace, *, dry_run: bool, as_json: bool) -> None:
    """Do what is left of the sweep at `path`, and exit by the worst that became of a run."""
    sweep = load_sweep(path)
    store = where.opened_store()
    out, base = out.resolve(), path.resolve().parent
    if dry_run:
        with where.opened() as executor:
            call = planned(sweep, base, out, lambda *of: kinds_of(executor(), *of), dry=True)
        _tell_left_out(call)
        _validate(_runs(call.left))
        if not print_plan(call, store, base, as_json=as_json) and where.executor == "local":
            raise typer.Exit(_BY_FAULT["input"])  # of other nodes a forecast here knows nothing
        return
    with locked(out, "grid"):
        with where.opened() as executor:
            call = planned(sweep, base, out, lambda *of: kinds_of(executor(), *of))
            _tell_left_out(call)
            if call.left:
                _validate(_runs(call.left))
                _drive(call, sweep, base, executor(), where, store)
        _finish(call, as_json)


def search(
    path: Path,
    out: Path,
    where: Workplace,
    *,
    trials: int,
    storage: str | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Search over recipes until this folder has so many trials."""
    wanted = load_file(path, Search)
    _validate([(f"a recipe of {path.name}", recipe) for recipe in corners(wanted)])
    store = where.opened_store()
    out, base = out.resolve(), path.resolve().parent
    with locked(out, "search"):
        call = opened(out)
        study = open_study(storage, name or path.stem, out, wanted)
        trials += sum(entry.fault == "node" for entry in call.ledger.entries.values())
        guide = Trials(
            search=wanted,
            base=base,
            study=study,
            ledger=call.ledger,
            count=trials,
            at_once=where.at_once,
        )
        if call.left or len(call.ledger.entries) < trials:
            with where.opened() as executor:
                _drive(call, wanted, base, executor(), where, store, guide)
        had = len(call.ledger.entries)
        if had < trials:
            note(f"{had} trials of {trials}: Optuna thought of no other recipe; widen the search")
        _finish(call, as_json)


def find_best(
    folder: Path,
    gates: Sequence[str],
    where: Sequence[str],
    by: str | None,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Print the best run within the gates, and copy its folder out."""
    if by is not None and by not in AIMS:
        raise RecipeError(f"--by must be among {', '.join(AIMS)}, found {by!r}")
    aim: Aim | None = next((known for known in AIMS if known == by), None)
    bounds = [parse_bound(gate) for gate in gates]
    ledger = open_sweep(folder)
    rows = _narrowed(rows_of(ledger), where)
    if not bounds and aim is None:
        raise RecipeError("sweep best must know what is best, found neither --gate nor --by")
    winner = best(rows, bounds, aim)
    if out is not None:
        _copy(folder / "runs" / winner["run"], out)
    if as_json:
        console.print_json(json.dumps(winner))
        return
    console.print(_praise(winner), soft_wrap=True)
    if beside := rivals(rows, bounds, winner, aim):
        names = ", ".join(f"{row['run']} ({row['variant']})" for row in beside[:_MOST_NAMED])
        more = ", …" if len(beside) > _MOST_NAMED else ""
        console.print(f"not surely worse, {len(beside)}: {names}{more}", soft_wrap=True)
    if out is not None:
        console.print(f"bundle: {out}", soft_wrap=True)


def _executor(name: str, address: str | None, *, shares: bool) -> Executor:
    if name == "local":
        return LocalExecutor()
    from compress_export.sweep.cluster import RayExecutor

    return RayExecutor(address, shares=shares)


def _tell_left_out(call: Call) -> None:
    if call.ledger.left_out:
        count, folder = len(call.ledger.left_out), call.ledger.folder / "runs"
        note(f"not in this sweep: {counted(count, 'run')} of an earlier call, kept in {folder}")


def _validate(named: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Every recipe, before any work is done."""
    from compress_export.recipe import make_recipe

    for name, recipe in named:
        try:
            make_recipe(recipe)
        except RecipeError as error:
            raise RecipeError(f"{name}: {error}") from error


def _runs(entries: Sequence[Entry]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"run {entry.run}", entry.recipe) for entry in entries]


def _drive(
    call: Call,
    common: Common,
    base: Path,
    executor: Executor,
    where: Workplace,
    store: Store | None,
    guide: Trials | None = None,
) -> None:
    with shown() as progress:
        Driver(
            common=common,
            base=base,
            ledger=call.ledger,
            mark=call.mark,
            store=store,
            executor=executor,
            jobs=where.at_once,
            tell=note,
            progress=progress,
            guide=guide,
        )()


def _write(call: Call) -> None:
    """The report, unless it is already about these results."""
    state = call.ledger.state_key()
    kept = call.ledger.folder / "reported"
    if kept.is_file() and kept.read_text(encoding="utf-8") == state:
        return
    from benchmarks.environment import environment
    from benchmarks.report.findings import write_findings
    from compress_export.sweep.findings import sweep_findings

    findings = sweep_findings(call.ledger, ())
    write_findings(findings, environment(), call.ledger.folder, record="report.json")
    kept.write_text(state, encoding="utf-8")


def _finish(call: Call, as_json: bool) -> None:
    """Write the report, print all runs, exit by the worst of them."""
    _write(call)
    ledger = call.ledger
    rows = rows_of(ledger)
    if as_json:
        console.print_json(json.dumps(rows))
    else:
        shown_rows = [row for row in rows if row["variant"] is None or row["reference"]]
        title = counted(len(ledger.entries), "run")
        columns = ["run", "kept", "speed-up", "p50 at one moment, ms", "gates"]
        table(title, columns, [_line(row) for row in shown_rows])
        console.print(f"report: {ledger.folder / 'report.md'}", soft_wrap=True)
    found = {_status(entry) for entry in ledger.entries.values()}
    status = next(status for status in _WORST_FIRST if status in found)
    if status:
        raise typer.Exit(status)


def _status(entry: Entry) -> int:
    if entry.state == "pruned":
        return 0
    return STATUS[entry.verdict] if entry.fault is None else _BY_FAULT[entry.fault]


def _line(row: Row) -> list[str]:
    if row["variant"] is None:
        return [row["run"], "", "", "", row["state"]]
    speedup, median = row["speedup"], row["steady_ms"]
    return [
        row["run"],
        f"{row['retention']:.1%}",
        "–" if speedup is None else f"{speedup:.2f}×",
        "–" if median is None else f"{median:.2f}",
        row["verdict"],
    ]


def _praise(row: Row) -> str:
    """What a run keeps and how fast it is, with intervals, in a line."""
    kept = f"{row['retention_low']:.1%} to {row['retention_high']:.1%}"
    parts = [f"{row['retention']:.1%} kept ({kept})"]
    if row["speedup"] is not None:
        low = row["speedup_low"]
        fast = "at a busy moment" if low is None else f"{low:.2f}× to {row['speedup_high']:.2f}×"
        parts.append(f"{row['speedup']:.2f}× as fast ({fast})")
    if row["p50_ms"] is not None:
        parts.append(f"{row['p50_ms']:.2f} ms")
    if row["size_mb"] is not None:
        parts.append(f"{row['size_mb']:.1f} MB")
    return f"{row['run']}, {row['variant']}: {', '.join(parts)}"


def _narrowed(rows: Sequence[Row], where: Sequence[str]) -> list[Row]:
    """Rows that are meant, of one task."""
    found = list(rows)
    for rule in where:
        name, equals, value = rule.partition("=")
        axis = axis_column(name)
        column = axis if any(axis in row for row in found) else name
        if not equals or not any(column in row for row in found):
            columns = {column for row in found for column in row if column.startswith("axis.")}
            known = sorted(column.removeprefix("axis.") for column in columns)
            raise RecipeError(
                f"--where must be NAME=VALUE with an axis ({', '.join(known)}) or a column of the "
                f"table of runs, found {rule!r}"
            )
        before, found = found, [row for row in found if str(row.get(column)) == value]
        if not found:
            values = ", ".join(sorted({str(row.get(column)) for row in before}))
            raise RecipeError(f"--where {rule} must leave a run, found {name} {values}; name one")
    for column in ("task", "device"):
        several = sorted({str(row[column]) for row in found if row["variant"] is not None})
        if len(several) > 1:
            raise RecipeError(
                f"sweep best must look at one {column}, found {', '.join(several)}; narrow it by "
                f"`--where {column}=…`"
            )
    return found


def _copy(run_folder: Path, out: Path) -> None:
    """Copy a run's folder; it appears when it is complete."""
    out = out.resolve()
    check_target(out, "run")
    verify_folder(run_folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        copy = Path(temporary) / "copy"
        shutil.copytree(run_folder, copy)
        replace_folder(copy, out)
