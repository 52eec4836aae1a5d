"""`load`: one contender under MLPerf's scenarios, with the lengths of real texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.environment import environment
from benchmarks.report.build import bench_report
from benchmarks.report.write import write_report
from benchmarks.runtimes.spec import open_runtime
from benchmarks.scenarios import SCENARIOS, ScenarioName, run_scenario
from benchmarks.tasks import Encoded, TextTask
from compress.errors import RecipeError
from compress.files.folder import check_target, writing
from compress_export.benching import Judged
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.contenders import check_whole, parse_entry
from compress_export.cores import pin
from compress_export.loading import load_tokenizer

MOST_TEXTS = 10_000


def run(
    name: str,
    scenarios: list[str],
    texts: Path | None,
    judged: tuple[str | dict[str, Any], Path | None, int] | None,
    *,
    bound_ms: float,
    batch: int,
    seconds: float,
    device: str,
    threads: int | None,
    max_length: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Run the scenarios, print and write the results."""
    known = _known(scenarios)
    if (texts is None) == (judged is None):
        raise RecipeError(
            "load needs texts of real lengths, found none or both; give --texts FILE, or --task "
            "NAME with --data"
        )
    if out is not None:
        check_target(out, "report")
    pin(threads)
    entry = parse_entry(name, None, device)
    encoded = Encoded(_texts(texts, judged)[:MOST_TEXTS], load_tokenizer(entry.folder), max_length)
    check_whole(entry)
    model = open_runtime(entry.spec)
    with progress() as report:
        loads = [
            run_scenario(
                model, scenario, encoded, batch=batch, bound_ms=bound_ms,
                seconds=seconds, progress=report,
            )
            for scenario in known
        ]  # fmt: skip
    place = {"contender": entry.name, "variant": entry.variant}
    found = bench_report(
        title=f"{entry.name} under load",
        environment=environment(),
        anchor=entry.name,
        load=[place | load.to_dict() for load in loads],
    )
    if out is not None:
        with writing(out, "report") as folder:
            write_report(found, None, folder)
    if as_json:
        console.print_json(json.dumps(found))
        return
    rows = [
        [load.scenario, f"{load.value:.4g} {load.unit}", load.what, "yes" if load.valid else "no"]
        for load in loads
    ]
    if out is not None:
        console.print(f"report: {out / 'report.html'}", soft_wrap=True)
    table(f"{name} under load", ["scenario", "result", "of what", "valid"], rows, left=(0, 2))


def _known(scenarios: list[str]) -> list[ScenarioName]:
    """Each scenario once, refused where there is none of that name."""
    names: dict[str, ScenarioName] = {scenario: scenario for scenario in SCENARIOS}
    for scenario in scenarios:
        if scenario not in names:
            raise RecipeError(
                f"--scenario must be {', '.join(SCENARIOS)}, found {scenario!r}; choose one"
            )
    return [names[scenario] for scenario in dict.fromkeys(scenarios)]


def _texts(
    texts: Path | None, judged: tuple[str | dict[str, Any], Path | None, int] | None
) -> list[tuple[str, ...]]:
    if texts is not None:
        return list(TextTask(texts=texts).load("train", None).texts)
    assert judged is not None  # one of the two
    task = Judged.by(*judged)
    return list(task.task.load("validation", task.data).texts)
