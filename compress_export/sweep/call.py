"""One call of `sweep`: which runs there are, what is left of them, and a lock on the folder."""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from compress.errors import BundleError, RecipeError
from compress.files.folder import write_whole
from compress_export.sweep.axes import Sweep, combinations
from compress_export.sweep.executor import Executor
from compress_export.sweep.identity import Hashes, run_key
from compress_export.sweep.ledger import LOCK, OWNER, Entry, Kind, Ledger, own_sweep
from compress_export.sweep.work import MARK

__all__ = ["Call", "kinds_of", "locked", "opened", "planned"]

_LETTERS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A sweep in a folder.

    Attributes:
        ledger: Its runs, and what became of each.
        mark: Its name for itself.
    """

    ledger: Ledger
    mark: str

    @property
    def left(self) -> list[Entry]:
        """Runs to do."""
        return self.ledger.in_state("waiting")


@contextmanager
def locked(folder: Path, kind: Kind) -> Iterator[None]:
    """Have a sweep's or a search's folder alone for the length of the block.

    Raises:
        BundleError: Another call has it, of which the message names the process; or it holds other
            files, and stays as it is.
    """
    own_sweep(folder, "", kind, dry=True)
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / OWNER
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        told = owner.read_text(encoding="utf-8") if owner.is_file() else "another process"
        raise BundleError(
            f"--out must be free, found that {told} sweeps in {folder}; wait for its end, or name "
            "another folder"
        ) from error
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def planned(
    sweep: Sweep,
    base: Path,
    folder: Path,
    kinds: Callable[[Path, str], Sequence[str | None]],
    *,
    dry: bool = False,
) -> Call:
    """The runs of a sweep, with what an earlier call in this folder has left.

    Args:
        sweep: Its file.
        base: The folder that recipes' paths are taken from.
        folder: Of the sweep.
        kinds: Asked, where every run is wanted for each of them, for the kinds of devices.
        dry: Write nothing.

    Raises:
        BundleError: The folder holds other files, or another sweep's runs.
    """
    facts = own_sweep(folder, uuid.uuid4().hex, "grid", dry=dry)
    mark = str(facts["mark"])
    hashes = Hashes(facts.get("hashes"))
    wanted = list(kinds(folder, mark)) if sweep.devices == "each" else [None]
    entries = [
        _entry(combination.slug, combination.labels, combination.recipe, kind,
               run_key(combination.recipe, base, kind, hashes))
        for combination in combinations(sweep)
        for kind in wanted
    ]  # fmt: skip
    ledger = Ledger(folder)
    if dry:
        ledger.look(entries)
    else:
        written = json.dumps({**facts, "hashes": hashes.to_dict()})
        write_whole(folder / MARK, written)
        ledger.open(entries)
    return Call(ledger=ledger, mark=mark)


def opened(folder: Path) -> Call:
    """The trials that a folder has; a search adds to them.

    Raises:
        BundleError: The folder holds other files.
    """
    facts = own_sweep(folder, uuid.uuid4().hex, "search")
    ledger = Ledger(folder)
    ledger.take_up()
    return Call(ledger=ledger, mark=str(facts["mark"]))


def kinds_of(executor: Executor, folder: Path, mark: str) -> list[str]:
    """The kinds of an executor's nodes, each once.

    Raises:
        RecipeError: No node can work.
    """
    nodes, unfit = executor.nodes(str(folder), mark)
    if not nodes:
        raise RecipeError(
            "devices: each must find a node that can work, found none: "
            f"{'; '.join(unfit) or 'the cluster is empty'}"
        )
    return list(dict.fromkeys(node.kind for node in nodes))


def _entry(
    slug: str, labels: dict[str, object], recipe: dict[str, object], kind: str | None, key: str
) -> Entry:
    name = f"{slug}-{key[:_LETTERS]}"
    return Entry(run=name, key=key, labels=labels, recipe=recipe, kind=kind)
