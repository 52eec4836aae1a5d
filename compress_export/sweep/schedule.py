"""Which stage may start where: resources counted, devices kept idle for what measures.

Pure bookkeeping over plain records; starts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from compress_export.stages import STEPS
from compress_export.sweep.devices import Uses, uses_of

__all__ = ["Node", "Order", "Place", "Schedule"]

_TINY = 1e-9
_MOST_WAITING = 16
"""Runs that wait for their last step on a node before other work does: results come early."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A machine that works.

    Attributes:
        name: As messages have it.
        kind: Its hardware in words: the same for nodes whose latencies can be compared.
        cpus: Cores.
        gpus: How many.
        memory_gb: Memory, in GB.
    """

    name: str
    kind: str
    cpus: float
    gpus: int = 0
    memory_gb: float = float("inf")


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A stage of a run that may start.

    Attributes:
        run: Of the sweep.
        step: Of the run.
        cpus: Cores; none for an even part of a node's.
        gpus: One, or a share of one; none for an even part of the node's, if it has any.
        memory_gb: Memory, in GB.
        measures: Whether it needs an idle device.
        device: What it measures: `cpu` or `cuda`.
        kind: The only kind of node that it may go to, if it matters.
        avoid: Nodes where it has failed.
    """

    run: str
    step: str
    cpus: float | None = None
    gpus: float | None = None
    memory_gb: float = 0
    measures: bool = False
    device: str = "cpu"
    kind: str | None = None
    avoid: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where an order goes.

    Attributes:
        node: Its name.
        cpus: Cores that it has there.
        gpu: Index of its GPU, if it has one.
        gpu_share: How much of it.
        uses: Devices of the node, and how.
    """

    node: str
    cpus: float
    gpu: int | None = None
    gpu_share: float = 0
    uses: Uses = field(default_factory=dict)


class Schedule:
    """What runs where, and what else fits.

    Args:
        jobs: Into how many even parts a node's cores are cut for stages that do not say.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._running: dict[tuple[str, str], tuple[Order, Place]] = {}
        self._catching_up = False

    def pick(self, ready: Sequence[Order], nodes: Sequence[Node]) -> list[tuple[Order, Place]]:
        """Start what fits now: work first, then what measures, so that devices idle rarely.

        Once many runs wait for their last step, which measures, no work starts where they could
        be, until none waits.
        """
        started = []
        finished = [o for o in ready if o.step == STEPS[-1] and not self.never_fits(o, nodes)]
        free_for_work = self._free_for_work(finished, nodes)
        for order in sorted(ready, key=lambda order: order.measures):
            place = self._place(order, nodes if order.measures else free_for_work)
            if place is not None:
                self._running[order.run, order.step] = (order, place)
                started.append((order, place))
        return started

    def _free_for_work(self, waiting: Sequence[Order], nodes: Sequence[Node]) -> list[Node]:
        """Nodes where work may start while these runs wait to be measured."""
        if not waiting:
            self._catching_up = False
        elif len(waiting) >= _MOST_WAITING * len(nodes):
            self._catching_up = True
        if not self._catching_up:
            return list(nodes)
        return [n for n in nodes if not any(self._fits(order, n, ()) for order in waiting)]

    def end(self, order: Order) -> None:
        """Take back what an order had."""
        del self._running[order.run, order.step]

    def never_fits(self, order: Order, nodes: Sequence[Node]) -> bool:
        """Whether no node could take an order even if it were idle."""
        return not any(self._fits(order, node, ()) for node in nodes)

    def _place(self, order: Order, nodes: Sequence[Node]) -> Place | None:
        places = []
        for node in nodes:
            there = [(o, p) for o, p in self._running.values() if p.node == node.name]
            place = self._fits(order, node, there)
            if place is not None:
                places.append((len(there), place))
        return min(places, key=lambda found: found[0])[1] if places else None

    def _fits(self, order: Order, node: Node, there: Sequence[tuple[Order, Place]]) -> Place | None:
        """Where on a node an order could go beside what runs there."""
        if node.name in order.avoid or order.kind not in (None, node.kind):
            return None
        wanted = self._cpus(order, node)
        free = node.cpus - sum(place.cpus for _, place in there)
        memory = node.memory_gb - sum(other.memory_gb for other, _ in there)
        if wanted > free + _TINY or order.memory_gb > memory:
            return None
        share = self._gpus(order, node)
        gpu = _gpu(share, node, there)
        if share and gpu is None:
            return None
        uses = uses_of(measures=order.measures, device=order.device, gpu_index=gpu)
        if any(_clash(uses, place.uses) for _, place in there):
            return None
        return Place(node=node.name, cpus=wanted, gpu=gpu, gpu_share=share, uses=uses)

    def _cpus(self, order: Order, node: Node) -> float:
        if order.cpus is not None:
            return order.cpus
        return node.cpus if order.measures and order.device == "cpu" else node.cpus / self._jobs

    def _gpus(self, order: Order, node: Node) -> float:
        if order.measures:
            return 1.0 if order.device == "cuda" else 0.0
        if order.gpus is not None:
            return order.gpus
        return min(1.0, node.gpus / self._jobs)


def _gpu(share: float, node: Node, there: Sequence[tuple[Order, Place]]) -> int | None:
    """The fullest GPU that has room for a share."""
    used = dict.fromkeys(range(node.gpus if share else 0), 0.0)
    for _, place in there:
        if place.gpu in used:
            used[place.gpu] += place.gpu_share
    room = [index for index in used if used[index] + share <= 1 + _TINY]
    return max(room, key=lambda index: used[index], default=None)


def _clash(first: Uses, second: Uses) -> bool:
    return any(
        "alone" in (use, second[device]) for device, use in first.items() if device in second
    )
