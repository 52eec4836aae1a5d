"""A search over recipes with Optuna: what keeps most at the least latency, trial by trial."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compress.errors import RecipeError
from compress.files.folder import write_whole
from compress_export.stages import STEPS, content_key
from compress_export.sweep.axes import Combination, Common, set_field
from compress_export.sweep.identity import Hashes, run_key
from compress_export.sweep.ledger import Entry, Ledger
from compress_export.sweep.results import SAME_TEACHER, at_moment, measured_rows
from compress_export.sweep.work import Outcome

__all__ = ["Search", "Trials", "corners", "open_study"]

TRIAL = "trial"
_ASKED, _STUDY = "search", "study.json"
_SAME_AGAIN = 20
"""Times that a study may ask for what is known, before it is taken to know nothing else."""


class Range(BaseModel):
    """Numbers between two ends."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: int | float = Field(description="Least.")
    high: int | float = Field(description="Most; whole numbers alone if both ends are whole.")
    step: Annotated[int | float, Field(gt=0)] | None = Field(None, description="Between values.")
    log: bool = Field(False, description="Whether ratios count, not differences.")

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, found {self.low:g} and {self.high:g}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log goes with a low above 0 and no step; leave one out")
        return self

    @property
    def whole(self) -> bool:
        """Whether its numbers are whole."""
        return all(isinstance(end, int) for end in (self.low, self.high, self.step or 1))


Choice: TypeAlias = Range | Annotated[list[str | float | int | bool], Field(min_length=1)]


class Search(Common):
    """What is common to all trials, and what is searched over."""

    parts: ClassVar[Mapping[str, type[BaseModel]]] = {**Common.parts, "search": Range}

    search: Annotated[dict[str, Choice], Field(min_length=1)] = Field(
        description="A recipe's field (dotted): a list of values, or low and high."
    )


def corners(search: Search) -> Iterator[dict[str, Any]]:
    """Recipes at each end and choice of one field, the others at their first: to be validated."""
    ends = {
        name: [c.low, c.high] if isinstance(c, Range) else list(c)
        for name, c in search.search.items()
    }
    for name, values in ends.items():
        for value in values:
            recipe: dict[str, Any] = dict(search.recipe)
            for other, others in ends.items():
                recipe = set_field(recipe, other, value if other == name else others[0])
            yield recipe


def open_study(storage: str | None, name: str, folder: Path, search: Search) -> Any:
    """The Optuna study of that name, made if there is none.

    Args:
        storage: An Optuna URL such as `postgresql://…`, or a file that workers share; by default
            a file in the sweep's folder.
        name: Of the study in its storage.
        folder: Of the sweep.
        search: What is searched.

    Raises:
        RecipeError: Optuna is not installed, the storage cannot be reached, or the study or the
            folder is of another search.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise RecipeError(
            "sweep search needs the extra `search`, found none; "
            "pip install 'compress-export[search]'"
        ) from error
    optuna.logging.set_verbosity(logging.WARNING)
    place = storage or str(folder / "optuna.journal")
    mine = {"name": name, "storage": content_key({"place": place})}  # which may hold a password
    _check_folder(folder, mine)
    try:
        study = optuna.create_study(
            storage=place if "://" in place else JournalStorage(JournalFileBackend(place)),
            study_name=name,
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )
    except Exception as error:  # each kind of storage raises its own
        line = _masked(" ".join(str(error).split()))[:160]
        raise RecipeError(
            f"--storage must be a store that Optuna can open, found {_masked(place)} "
            f"({type(error).__name__}: {line}); correct it, or leave it out for a file in --out"
        ) from error
    asked = search.model_dump(mode="json")["search"]
    known = study.user_attrs.get(_ASKED)
    if known is None:
        study.set_user_attr(_ASKED, asked)
    elif known != asked:
        raise RecipeError(
            f"the study {name!r} must be of this search, found one over {', '.join(known)} with "
            "other choices; give another --name and --out"
        )
    write_whole(folder / _STUDY, json.dumps(mine))
    return study


def _masked(place: str) -> str:
    """A store's URL without its password.

    Example:
        >>> _masked("mysql://me:sec@ret@host/x?password=secret&a=b")
        'mysql://me:…@host/x?password=…&a=b'
    """
    place = re.sub(r"(//[^:/@]*:)[^/]*@", r"\1…@", place)
    return re.sub(r"(password=)[^&]*", r"\1…", place)


def _check_folder(folder: Path, mine: Mapping[str, str]) -> None:
    """Refuse a folder whose trials another study knows."""
    path = folder / _STUDY
    if path.is_file() and (found := json.loads(path.read_text(encoding="utf-8"))) != mine:
        raise RecipeError(
            f"--out must go with one study, found trials of {found['name']!r} in {folder} and "
            f"{mine['name']!r} asked for; give its --name and --storage, or another --out"
        )


@dataclass(kw_only=True, slots=True)
class Trials:
    """Asks a study for recipes as others end, and tells it what became of them.

    Attributes:
        search: Its file.
        base: The folder that recipes' paths are taken from.
        study: Optuna's.
        ledger: Of the trials of this folder.
        count: Trials in all that this folder is to have.
        at_once: Trials that are under way at a time on a node.
        hashes: Of files.
    """

    search: Search
    base: Path
    study: Any
    ledger: Ledger
    count: int
    at_once: int
    hashes: Hashes = field(default_factory=Hashes)
    _spent: bool = False

    def __post_init__(self) -> None:
        """Tell the study what a kill kept from it."""
        trials = self.study.get_trials(deepcopy=False)
        open_ones = {trial.number for trial in trials if not trial.state.is_finished()}
        for entry in self.ledger.entries.values():
            if entry.state != "waiting" and entry.labels[TRIAL] in open_ones:
                self.over(entry)

    def more(self, nodes: int) -> list[Entry]:
        """New trials, as many as may be under way on so many nodes."""
        at_once = self.at_once * nodes
        waiting = self.ledger.in_state("waiting")
        working = [entry for entry in waiting if entry.next != STEPS[-1]]
        room = min(at_once - len(working), 2 * at_once - len(waiting))
        wanted = min(room, self.count - len(self.ledger.entries))
        found: list[Entry] = []
        while len(found) < wanted and not self._spent:
            found += self._asked({entry.key for entry in found})
        return found

    def hopeless(self, entry: Entry, outcome: Outcome) -> str:
        """Whether the gate on accuracy has surely failed, so that its latency is of no interest."""
        wanted = (entry.recipe.get("gate") or {}).get("retention")
        if wanted is None or not outcome.accuracy:
            return ""
        found = outcome.accuracy[0]
        if found["high"] >= wanted:
            return ""
        return f"retention is at most {found['high']:.3f}, gate.retention is {wanted:g}"

    def over(self, entry: Entry) -> None:
        """Tell the study: both objectives, or that the trial was pruned or failed."""
        from optuna.trial import TrialState

        self._spent = False  # what is known now may lead elsewhere
        number = int(entry.labels[TRIAL])
        if entry.state == "done":
            objectives = self._objectives(entry)
            if objectives is not None:
                self.study.tell(number, objectives, skip_if_finished=True)
                return
        state = TrialState.PRUNED if entry.state == "pruned" else TrialState.FAIL
        self.study.tell(number, state=state, skip_if_finished=True)

    def _asked(self, asked: set[str]) -> list[Entry]:
        """A trial of a recipe that is new; none where the study thinks of no other.

        One of a recipe that has been tried is told as failed, which samplers pass over.
        """
        from optuna.trial import TrialState

        known = asked | {entry.key for entry in self.ledger.entries.values()}
        for _ in range(_SAME_AGAIN):
            entry = self._suggested()
            if entry.key not in known:
                return [entry]
            self.study.tell(int(entry.labels[TRIAL]), state=TrialState.FAIL)
        self._spent = True
        return []

    def _suggested(self) -> Entry:
        trial = self.study.ask()
        values = {name: _suggest(trial, name, c) for name, c in self.search.search.items()}
        recipe: dict[str, Any] = dict(self.search.recipe)
        for name, value in values.items():
            recipe = set_field(recipe, name, value)
        labels = {TRIAL: trial.number} | values
        key = run_key(recipe, self.base, None, self.hashes)
        slug = Combination(labels=labels, recipe=recipe).slug
        return Entry(run=f"{slug}-{key[:8]}", key=key, labels=labels, recipe=recipe)

    def _objectives(self, entry: Entry) -> list[float] | None:
        """Accuracy kept and median latency in ms a text, of the variant that gates look at.

        The latency is as if it had been timed when the study was first told one of that teacher,
        which the study keeps, for all who share it. Nothing where that variant was not measured.
        """
        rows = measured_rows(entry, self.ledger.report(entry.run))
        row = next((row for row in rows if row["reference"]), None)
        if row is None:
            return None
        name = f"teacher_ms: {', '.join(str(row[column]) for column in SAME_TEACHER)}"
        if name not in self.study.user_attrs:
            self.study.set_user_attr(name, row["teacher_ms"])
        return [row["retention"], at_moment(row, self.study.user_attrs[name]) / row["batch"]]


def _suggest(trial: Any, name: str, choice: Choice) -> Any:
    if not isinstance(choice, Range):
        return trial.suggest_categorical(name, choice)
    if choice.whole:
        low, high, step = (int(end) for end in (choice.low, choice.high, choice.step or 1))
        return trial.suggest_int(name, low, high, step=step)
    found = trial.suggest_float(name, choice.low, choice.high, step=choice.step, log=choice.log)
    return float(f"{found:.6g}")
