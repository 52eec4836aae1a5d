"""A sweep's work on a Ray cluster: an existing one by address, or one that Ray starts here.

Ray moves tasks, watches nodes and shows its dashboard; where a task goes is said by the schedule.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from typing import Any

from compress.errors import RecipeError
from compress.files.folder import versions
from compress_export.sweep import carried
from compress_export.sweep.executor import Done
from compress_export.sweep.schedule import Node, Place
from compress_export.sweep.work import Outcome, Probe, Task

__all__ = ["RayExecutor"]

_GB = 1e9
_PROBE_SECONDS = 120
_REACH_SECONDS = 10
_SAME = ("compress-export", "torch", "transformers", "onnxruntime")
"""Packages whose versions decide what a run gives."""


class RayExecutor:
    """Tasks as Ray's, each bound to the node that it was placed on.

    Args:
        address: Of the cluster, as Ray takes it; left out, `RAY_ADDRESS` or one that is started
            here and ends with this process.
        shares: Whether there is a store, so that nodes need not see the sweep's folder.

    Raises:
        RecipeError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, address: str | None, *, shares: bool = False) -> None:
        self._shares = shares
        self._ray = _import_ray()
        self._ray.cloudpickle.register_pickle_by_value(carried)
        if address in (None, "auto"):
            address = os.environ.get("RAY_ADDRESS") or address
        try:
            _reach(address or "")
            self._ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
        except (ConnectionError, OSError, ValueError, RuntimeError) as error:
            raise RecipeError(
                f"--address must be a Ray cluster that answers, found {address!r} "
                f"({' '.join(str(error).split())[:160]}); start one with `ray start --head`"
            ) from error
        self._call = self._ray.remote(max_retries=0)(carried.call)
        # A process that has begun to use one GPU keeps it: the next task gets one of its own.
        self._call_gpu = self._ray.remote(max_retries=0, max_calls=1)(carried.call)
        self._probes: dict[str, tuple[Node | None, str]] = {}
        self._ids: dict[str, str] = {}
        self._with_gpus: set[str] = set()
        self._running: dict[Any, str] = {}

    def nodes(self, folder: str, mark: str) -> tuple[list[Node], list[str]]:
        """Nodes that are alive and have what is needed; a line for each that has not."""
        fit, unfit = [], []
        alive = [facts for facts in self._ray.nodes() if facts["Alive"]]
        asked = [
            (facts, self._asked(facts, folder, mark))
            for facts in alive
            if facts["NodeID"] not in self._probes
        ]
        for facts, reference in asked:
            self._probes[facts["NodeID"]] = self._probed(facts, reference, folder)
        for facts in alive:
            node, line = self._probes[facts["NodeID"]]
            if node is not None:
                fit.append(node)
            else:
                unfit.append(line)
        return fit, unfit

    def submit(self, task: Task, place: Place) -> None:
        """Begin a task on its node; what else it needs there has been counted."""
        options = self._pinned(self._ids[place.node]) | {
            "num_cpus": place.cpus,
            "num_gpus": place.gpu_share,
        }
        call = self._call if place.gpu is None else self._call_gpu
        if place.gpu is None and place.node in self._with_gpus:
            options["runtime_env"] = {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
        reference = call.options(**options).remote("work", task)
        self._running[reference] = task.run

    def wait(self, seconds: float) -> list[Done]:
        """See `Executor.wait`."""
        if not self._running:
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [Done(run=self._running.pop(ref), outcome=self._outcome(ref)) for ref in ready]

    def close(self) -> None:
        """Cancel what is under way, and leave the cluster as it was."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._ray.shutdown()

    def _outcome(self, reference: Any) -> Outcome | None:
        """What a task gave; nothing where its worker or node was lost."""
        errors = self._ray.exceptions
        try:
            found = self._ray.get(reference)
        except errors.RayTaskError as error:
            line = " ".join(str(error.cause).split())
            return Outcome(error=f"{type(error.cause).__name__}: {line}", fault="node")
        except errors.RayError:
            return None
        assert isinstance(found, Outcome)  # what `work` gives
        return found

    def _asked(self, facts: Mapping[str, Any], folder: str, mark: str) -> Any:
        """A probe under way on a node."""
        options = self._pinned(facts["NodeID"]) | {"num_cpus": 0}
        return self._call.options(**options).remote("probe", folder, mark)

    def _probed(
        self, facts: Mapping[str, Any], reference: Any, folder: str
    ) -> tuple[Node | None, str]:
        """A node as the schedule knows it, or why it cannot work."""
        name = self._name(facts)
        try:
            found = self._ray.get(reference, timeout=_PROBE_SECONDS)
        except self._ray.exceptions.RayTaskError as error:
            line = " ".join(str(error.cause).split())
            return None, f"{name} cannot work: {line}; install compress-export there"
        except self._ray.exceptions.RayError as error:
            return None, f"{name} does not answer ({type(error).__name__})"
        assert isinstance(found, Probe)  # what `probe` gives
        if not (found.sees or self._shares):
            return None, f"{name} cannot see {folder}; mount it there, or name a --store"
        here = versions()
        other = [p for p in _SAME if found.versions.get(p) != here.get(p)]
        if other:
            there = found.versions.get(other[0])
            return None, (
                f"{name} must have {other[0]} {here.get(other[0])} as this machine has, found "
                f"{there}; install it there"
            )
        resources = facts["Resources"]
        self._ids[name] = facts["NodeID"]
        if resources.get("GPU"):
            self._with_gpus.add(name)
        return Node(
            name=name,
            kind=found.kind,
            cpus=float(resources.get("CPU", 0)),
            gpus=int(resources.get("GPU", 0)),
            memory_gb=float(resources.get("memory", 0)) / _GB,
        ), ""

    def _name(self, facts: Mapping[str, Any]) -> str:
        """A node's host name, with the beginning of its number where a host has several."""
        hosts = [node["NodeManagerHostname"] for node in self._ray.nodes()]
        host = str(facts["NodeManagerHostname"])
        return host if hosts.count(host) == 1 else f"{host}/{facts['NodeID'][:6]}"

    def _pinned(self, node: str) -> dict[str, Any]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node, soft=False)}


def _reach(address: str) -> None:
    """Knock at a cluster's door: Ray itself waits for minutes where nobody is.

    Raises:
        OSError: Nothing listens at that host and port.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS).close()


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise RecipeError(
            f"--executor ray needs the extra `ray`, found none on {socket.gethostname()}; "
            "pip install 'compress-export[ray]'"
        ) from error
    return ray
