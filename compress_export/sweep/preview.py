"""What a dry run prints of a sweep: its runs, what is left of them, and what that will take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compress_export.console import counted, note, table
from compress_export.console import out as console
from compress_export.sweep.call import Call
from compress_export.sweep.ledger import Entry
from compress_export.sweep.store import Store

if TYPE_CHECKING:
    from compress_export.forecast import Forecast

__all__ = ["print_plan"]


def print_plan(call: Call, store: Store | None, base: Path, *, as_json: bool) -> bool:
    """Print a sweep's runs.

    Args:
        call: The sweep in its folder.
        store: Where finished runs may be.
        base: The folder that recipes' paths are taken from.
        as_json: Print JSON.

    Returns:
        Whether all that is left can be done here, as far as a forecast can tell.
    """
    found = list(call.ledger.entries.values())
    states = {entry.run: _state(entry, store) for entry in found}
    left = [entry for entry in found if not states[entry.run]]
    foretold = _foretold(left, base)
    if as_json:
        console.print_json(json.dumps([_row(e, states[e.run], foretold.get(e.run)) for e in found]))
        return len(foretold) == len(left)
    rows = [
        [e.run, *map(str, e.labels.values()), states[e.run], str(foretold.get(e.run, ""))]
        for e in found
    ]
    axes = found[0].labels
    title = f"{counted(len(rows), 'run')}, {len(left)} to do{_in_all(list(foretold.values()))}"
    table(title, ["run", *axes, "state", "will take"], rows, left=range(len(axes) + 3))
    return len(foretold) == len(left)


def _state(entry: Entry, store: Store | None) -> str:
    if entry.state != "waiting":
        return entry.state
    return "in the store" if store is not None and store.has(entry.key) else ""


def _foretold(left: Sequence[Entry], base: Path) -> Mapping[str, Forecast]:
    """What each run will take, by its name; why there is no telling is noted."""
    if not left:
        return {}
    from compress_export.sweep.outlook import outlook

    found = outlook(left, base)
    for run, one in found.items():
        if isinstance(one, str):
            note(f"run {run} cannot be done here: {one}")
    return {run: one for run, one in found.items() if not isinstance(one, str)}


def _in_all(found: Sequence[Forecast]) -> str:
    if not found:
        return ""
    from compress_export.forecast import duration

    return f", about {duration(sum(one.total_seconds for one in found))} of work"


def _row(entry: Entry, state: str, foretold: Forecast | None) -> dict[str, object]:
    expected = None if foretold is None else foretold.to_dict()
    return {"run": entry.run, "labels": entry.labels, "state": state or "waiting"} | {
        "forecast": expected
    }
