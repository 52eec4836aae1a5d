"""What became of every run, one file each, so that a sweep goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from compress.errors import BundleError
from compress.files.folder import MANIFEST, write_whole
from compress_export.stages import STEPS, Step, content_key
from compress_export.sweep.work import MARK, Fault, Outcome, kind_of_device

__all__ = ["LOCK", "OWNER", "Entry", "Kind", "Ledger", "State", "open_sweep", "own_sweep"]

RUNS = "runs.json"
LOCK, OWNER = ".lock", ".owner"
OWN = (LOCK, OWNER)

Kind: TypeAlias = Literal["grid", "search"]
State: TypeAlias = Literal["waiting", "done", "failed", "pruned"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One run.

    Attributes:
        run: Its name: labels and the first letters of its key.
        key: See `identity.run_key`.
        labels: Its value on each axis.
        recipe: As plain data.
        kind: Of the device that it is for, or was measured on.
        state: Whether it is over.
        steps: Of each that is done: node, seconds.
        tries: Times that the present step was begun again.
        lost: Times that earlier steps were.
        error, fault: Why it failed.
        verdict: Of its gates, once it is done.
    """

    run: str
    key: str
    labels: dict[str, Any]
    recipe: dict[str, Any]
    kind: str | None = None
    state: State = "waiting"
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    tries: int = 0
    lost: int = 0
    error: str = ""
    fault: Fault | None = None
    verdict: str = ""

    @property
    def next(self) -> Step:
        """The step to do."""
        return next(step for step in STEPS if step not in self.steps)

    def after(self, step: Step, node: str, outcome: Outcome) -> Entry:
        """The run once a step is done."""
        done = {"node": node, "seconds": round(outcome.seconds, 3),
                "waited": round(outcome.waited, 3)}  # fmt: skip
        steps, lost = self.steps | {step: done}, self.lost + self.tries
        return replace(self, steps=steps, tries=0, lost=lost, error="")


class Ledger:
    """The entries of a sweep, kept in `folder/ledger/<run>.json`.

    Attributes:
        entries: By the run's name.
        left_out: Runs that an earlier call has finished, and that are not in the sweep any more.

    Args:
        folder: Of the sweep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: dict[str, Entry] = {}
        self.left_out: list[str] = []

    def open(self, wanted: Sequence[Entry]) -> None:
        """Take up these runs: those that are whole stay so, all others are to be done."""
        runs = self.folder / "runs"
        for run, earlier in self.look(wanted).items():
            if (runs / earlier).exists():  # unless a call before this one came just so far
                (runs / earlier).rename(runs / run)
        for entry in self.entries.values():
            self.put(entry)
        write_whole(self.folder / RUNS, json.dumps(list(self.entries)))

    def look(self, wanted: Sequence[Entry]) -> dict[str, str]:
        """The same, with nothing written down.

        Returns:
            By their new names, those of finished runs of which the labels alone have changed.

        Raises:
            BundleError: The folder has finished runs, all of other recipes than are wanted.
        """
        recorded = map(self._read, (self.folder / "ledger").glob("*.json"))
        done = [e for e in recorded if e and e.state == "done" and self._is_whole(e.run)]
        recipes, keys, named = ([getattr(e, p) for e in wanted] for p in ("recipe", "key", "run"))
        if done and not any(e.key in keys or e.recipe in recipes for e in done):
            raise BundleError(
                f"--out must be new or the folder of this sweep, found {len(done)} finished runs "
                f"of other recipes in {self.folder}; name another"
            )
        last = set(self._names())
        gone = [e for e in done if e.key not in keys and e.recipe not in recipes]
        self.left_out = [entry.run for entry in gone if entry.run in last]
        free = {entry.key: entry for entry in done if entry.run not in named}
        self.entries, renamed = {}, {}
        for entry in wanted:
            found = self._kept(entry) or entry
            same = free.pop(entry.key, None) if found.state == "waiting" else None
            if same is not None:
                renamed[entry.run] = same.run
                found = replace(same, run=entry.run, labels=entry.labels, recipe=entry.recipe)
            self.entries[entry.run] = found
        return renamed

    def take_up(self) -> None:
        """The runs of the last call, as it left them; none where there was none."""
        found = [self._read(self._path(name)) for name in self._names()]
        self.entries = {entry.run: entry for entry in found if entry is not None}

    def _names(self) -> list[str]:
        """Runs of the last call."""
        path = self.folder / RUNS
        names: list[str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        return names

    def _read(self, path: Path) -> Entry | None:
        """An entry; none where the file is not there, or is not as it was written."""
        try:
            return Entry(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def put(self, entry: Entry) -> None:
        """Write one down."""
        new = entry.run not in self.entries
        self.entries[entry.run] = entry
        write_whole(self._path(entry.run), json.dumps(asdict(entry), indent=1))
        if new:
            write_whole(self.folder / RUNS, json.dumps(list(self.entries)))

    def in_state(self, state: State) -> list[Entry]:
        """Of the sweep's runs, in their order."""
        return [entry for entry in self.entries.values() if entry.state == state]

    def report(self, run: str) -> dict[str, Any]:
        """The report of a finished run."""
        path = self.folder / "runs" / run / "report.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def finished(self, entry: Entry) -> Entry:
        """A run that is whole, with its verdict and the kind of device that it was measured on."""
        report = self.report(entry.run)
        kind = entry.kind or kind_of_device(report["environment"])
        return replace(
            entry, state="done", verdict=report["verdict"], kind=kind, error="", fault=None
        )

    def state_key(self) -> str:
        """Hash of what has become of all runs."""
        return content_key({name: asdict(entry) for name, entry in self.entries.items()})

    def _path(self, run: str) -> Path:
        return self.folder / "ledger" / f"{run}.json"

    def _kept(self, entry: Entry) -> Entry | None:
        """The run as it was left, if it is the same; one that failed is to be done again."""
        found = self._read(self._path(entry.run))
        if found is None or found.key != entry.key:
            return None
        if found.state == "pruned" or (found.state == "done" and self._is_whole(found.run)):
            return replace(found, labels=entry.labels, recipe=entry.recipe)
        if found.state == "waiting":
            return replace(entry, steps=found.steps, lost=found.lost + found.tries)
        return entry

    def _is_whole(self, run: str) -> bool:
        folder = self.folder / "runs" / run
        return all((folder / name).is_file() for name in (MANIFEST, "report.json"))


def open_sweep(folder: Path) -> Ledger:
    """The ledger of a sweep that has been called before, as its last call left it.

    Raises:
        BundleError: There is none.
    """
    if not (folder / RUNS).is_file():
        raise BundleError(
            f"{folder} must be a sweep's folder, found none; make one with `sweep run`"
        )
    ledger = Ledger(folder)
    ledger.take_up()
    return ledger


def own_sweep(
    folder: Path, mark: str, kind: Kind = "grid", *, dry: bool = False
) -> Mapping[str, Any]:
    """Make `folder` that of a sweep; what its file says, if it was one already.

    Args:
        folder: New, empty, or of an earlier sweep.
        mark: A name for it, if it is new.
        kind: What the folder is of.
        dry: Only check.

    Raises:
        BundleError: It holds other files, or a sweep of the other kind.
    """
    path = folder / MARK
    if path.is_file():
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BundleError(
                f"{path} must be as `sweep` wrote it, found {error}; name another --out"
            ) from error
        if found.get("kind") != kind:
            raise BundleError(
                f"--out must be a folder of a {kind}, new or empty, found one of a "
                f"{found.get('kind')} in {folder}; name another"
            )
        return found
    if folder.exists() and (not folder.is_dir() or any(_others(folder))):
        raise BundleError(
            f"--out must be a sweep's folder, new or empty, found other files in {folder}; "
            "name another"
        )
    facts: dict[str, Any] = {"schema": 1, "kind": kind, "mark": mark, "hashes": {}}
    if dry:
        return facts
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    (folder / "ledger").mkdir(exist_ok=True)
    write_whole(path, json.dumps(facts))
    return facts


def _others(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name not in OWN]
