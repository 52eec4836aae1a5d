"""A sweep under way: what can start is started, what ends is written down, what is lost retried."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from compress.errors import RecipeError
from compress_export.remote import StoreError
from compress_export.stages import STEPS
from compress_export.sweep.axes import Common
from compress_export.sweep.executor import Done, Executor
from compress_export.sweep.ledger import Entry, Ledger
from compress_export.sweep.schedule import Node, Order, Place, Schedule
from compress_export.sweep.steps import Need, is_measured, measures
from compress_export.sweep.store import Store
from compress_export.sweep.work import Fault, Outcome, Task, unfinished

__all__ = ["Driver", "Guide", "Tell"]

Tell = Callable[[str], None]
"""Told a line that the user should see."""


class Guide(Protocol):
    """Says what to run next, from what has been found: a search."""

    def more(self, nodes: int) -> Sequence[Entry]:
        """Runs to add now, where so many nodes work."""
        ...

    def hopeless(self, entry: Entry, outcome: Outcome) -> str:
        """Why a run need not go on after a step; empty if it should."""
        ...

    def over(self, entry: Entry) -> None:
        """Told of every run that is over."""
        ...


_POLL = 5.0


@dataclass(kw_only=True, slots=True)
class Driver:
    """One sweep, from where its ledger says it is to its end.

    Attributes:
        common: What its file says of all runs.
        base: The folder that recipes' paths are taken from.
        ledger: Its runs.
        mark: Its name for itself.
        store: Where finished runs are shared, if anywhere.
        executor: Does the work.
        jobs: Parts into which a node's cores are cut.
        tell: Told what goes wrong, by run and node.
        progress: Told what is done and what is under way.
        guide: Adds runs as others end, if there is a search.
    """

    common: Common
    base: Path
    ledger: Ledger
    mark: str
    store: Store | None
    executor: Executor
    jobs: int
    tell: Tell
    progress: Callable[[Ledger, dict[str, str]], None]
    guide: Guide | None = None
    _schedule: Schedule = field(init=False)
    _running: dict[str, tuple[Order, Place]] = field(default_factory=dict)
    _avoid: dict[str, set[str]] = field(default_factory=dict)
    _lost_on: dict[str, set[str]] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)

    def __call__(self) -> None:
        """Go on until every run is done or has failed.

        Raises:
            RecipeError: No node can work.
        """
        self._schedule = Schedule(self.jobs)
        self._add(len(self._nodes()) if self.guide is not None else 1)
        while self.ledger.in_state("waiting"):
            nodes = self._nodes()
            self._give_up(nodes)
            for order, place in self._schedule.pick(self._ready(nodes), nodes):
                self._start(order, place)
            self._show()
            for done in self.executor.wait(_POLL):
                self._end(done)
            self._add(len(nodes))
        self._show()

    # What starts.

    def _add(self, n_nodes: int) -> None:
        """Take up runs that a search adds; what the store has is taken from there."""
        if self.guide is not None:
            for entry in self.guide.more(max(n_nodes, 1)):
                self.ledger.put(entry)
        for entry in self.ledger.in_state("waiting"):
            if self.store is None or entry.run in self._seen:
                continue
            self._seen.add(entry.run)
            self._taken(entry)

    def _taken(self, entry: Entry) -> bool:
        """Whether a run was in the store; a store that does not answer has it not."""
        if self.store is None:
            return False
        try:
            there = self.store.has(entry.key)
            if there:
                self.store.pull(entry.key, self.ledger.folder / "runs" / entry.run)
        except StoreError as error:
            self._once(str(error))
            return False
        if there:
            self._settle(self.ledger.finished(entry))
            self._clear(entry)
        return there

    def _nodes(self) -> list[Node]:
        nodes, unfit = self.executor.nodes(str(self.ledger.folder), self.mark)
        for line in unfit:
            self._once(line)
        if not nodes and not self._running:
            raise RecipeError(
                "a sweep must have a node that can work, found none: "
                f"{'; '.join(unfit) or 'the cluster is empty'}"
            )
        return nodes

    def _ready(self, nodes: Sequence[Node]) -> list[Order]:
        return [
            self._wary(self._order(entry), nodes)
            for entry in self.ledger.in_state("waiting")
            if entry.run not in self._running
        ]

    def _order(self, entry: Entry) -> Order:
        step = entry.next
        need = self.common.resources.get(step, Need())
        target = entry.recipe.get("target")
        device = (target.get("device") or "cpu") if isinstance(target, dict) else "cpu"
        sees_gpu = device != "cpu" or step not in ("evaluate", "bench")  # both judge the same
        return Order(
            run=entry.run,
            step=step,
            cpus=need.cpus,
            gpus=need.gpus if sees_gpu or need.gpus is not None else 0,
            memory_gb=need.memory_gb,
            measures=measures(step, entry.recipe),
            device=device,
            kind=entry.kind,
            avoid=frozenset(self._avoid.get(entry.run, ())),
        )

    def _wary(self, order: Order, nodes: Sequence[Node]) -> Order:
        """Keep a run from nodes that lost it, as long as another could take it."""
        wary = replace(order, avoid=order.avoid | self._lost_on.get(order.run, set()))
        return order if self._schedule.never_fits(wary, nodes) else wary

    def _start(self, order: Order, place: Place) -> None:
        entry = self.ledger.entries[order.run]
        if order.step == STEPS[0] and self._taken(entry):  # by another sweep, meanwhile
            self._schedule.end(order)
            return
        if entry.error:
            self._once(f"{entry.error}; what cannot be there goes elsewhere")
        task = Task(
            run=entry.run,
            key=entry.key,
            step=entry.next,
            recipe=entry.recipe,
            base=str(self.base),
            folder=str(self.ledger.folder),
            mark=self.mark,
            store=None if self.store is None else self.store.url,
            cpus=place.cpus,
            uses=place.uses,
        )
        self._running[order.run] = (order, place)
        self.executor.submit(task, place)

    def _give_up(self, nodes: Sequence[Node]) -> None:
        """Fail runs that no node can take, once nothing that is under way could change that."""
        if self._running:
            return
        for order in self._ready(nodes):
            if nodes and self._schedule.never_fits(order, nodes):
                entry = self.ledger.entries[order.run]
                self._fail(entry, entry.error or _too_much(order), "node")

    # What ends.

    def _end(self, done: Done) -> None:
        order, place = self._running.pop(done.run)
        self._schedule.end(order)
        entry = self.ledger.entries[done.run]
        if done.outcome is None:
            self._lost(entry, place)
        elif done.outcome.fault is None:
            self._through(entry, place, done.outcome)
        elif done.outcome.fault == "node":
            self._elsewhere(entry, place, done.outcome)
        else:
            self._keep_traceback(entry, done.outcome)
            self._fail(entry, done.outcome.error, done.outcome.fault)

    def _through(self, entry: Entry, place: Place, outcome: Outcome) -> None:
        step = entry.next
        entry = entry.after(step, place.node, outcome)
        if entry.kind is None and is_measured(entry.recipe):
            entry = replace(entry, kind=self._kind(place.node))  # its table is of that kind
        hopeless = self.guide.hopeless(entry, outcome) if self.guide is not None else ""
        if step == STEPS[-1]:
            self._finish(replace(entry, kind=self._kind(place.node) or entry.kind))
        elif hopeless:
            self._settle(replace(entry, state="pruned", error=hopeless))
            self._clear(entry)
        else:
            self.ledger.put(entry)

    def _clear(self, entry: Entry) -> None:
        """Remove what is half done of a run that does not go on."""
        shutil.rmtree(self.ledger.folder / "runs" / f"{entry.run}.partial", ignore_errors=True)
        if self.store is not None:
            try:
                self.store.drop(unfinished(entry.key, self.mark))
            except StoreError as error:
                self._once(str(error))

    def _finish(self, entry: Entry) -> None:
        folder = self.ledger.folder / "runs" / entry.run
        if self.store is not None and not (folder / "report.json").is_file():
            try:
                self.store.pull(entry.key, folder)
            except StoreError as error:
                self._fail(entry, str(error), "node")
                return
        self._settle(self.ledger.finished(entry))

    def _lost(self, entry: Entry, place: Place) -> None:
        if entry.tries >= self.common.retries:
            line = f"lost {entry.tries + 1} times at {entry.next}, the last time on {place.node}"
            self._fail(entry, f"{line}; see whether its memory suffices", "node")
            return
        self._lost_on.setdefault(entry.run, set()).add(place.node)
        self.tell(f"{entry.run}: lost on {place.node} at {entry.next}; begun again from there")
        self.ledger.put(replace(entry, tries=entry.tries + 1))

    def _elsewhere(self, entry: Entry, place: Place, outcome: Outcome) -> None:
        """Keep a run from a node where it cannot be; it fails where no other is left."""
        self._avoid.setdefault(entry.run, set()).add(place.node)
        line = f"on {place.node}, at {entry.next}: {outcome.error}"
        self.ledger.put(replace(entry, error=line))

    def _fail(self, entry: Entry, error: str, fault: Fault) -> None:
        self._settle(replace(entry, state="failed", error=error, fault=fault))
        self.tell(f"{entry.run} failed: {error}")

    def _settle(self, entry: Entry) -> None:
        """Write down a run that is over."""
        self.ledger.put(entry)
        if self.guide is not None:
            self.guide.over(entry)

    def _keep_traceback(self, entry: Entry, outcome: Outcome) -> None:
        if outcome.details:
            path = self.ledger.folder / "ledger" / f"{entry.run}.traceback"
            path.write_text(outcome.details, encoding="utf-8")

    def _kind(self, name: str) -> str | None:
        nodes, _ = self.executor.nodes(str(self.ledger.folder), self.mark)
        return next((node.kind for node in nodes if node.name == name), None)

    def _show(self) -> None:
        under_way = {run: f"{order.step} on {place.node}" for run, (order, place) in
                     self._running.items()}  # fmt: skip
        self.progress(self.ledger, under_way)

    def _once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self.tell(line)


def _too_much(order: Order) -> str:
    asked = {"cpus": order.cpus, "gpus": order.gpus, "memory_gb": order.memory_gb or None}
    told = ", ".join(f"{name} {value:g}" for name, value in asked.items() if value is not None)
    kind = f" of the kind {order.kind!r}" if order.kind else ""
    device = f" with a {order.device} device" if order.device != "cpu" else ""
    return (
        f"no node{kind}{device} has what {order.step} takes ({told or 'an even part'}); ask for "
        f"less under resources.{order.step}, or add a node"
    )
