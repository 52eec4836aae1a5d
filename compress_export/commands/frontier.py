"""`frontier`: a student at every speed-up from one run, beside baselines, drawn and tabled."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from benchmarks.report.frontier import write_frontier
from benchmarks.tasks import TextTask
from compress.errors import DataError, RecipeError
from compress.files.folder import check_target, writing
from compress.model.task_head import head_of
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.context import SPLITS, Context
from compress_export.frontier import Frontier
from compress_export.loading import check_alone
from compress_export.quality import can_judge
from compress_export.recipe import make_recipe


def run(
    data: dict[str, Any],
    targets: list[float],
    out: Path,
    *,
    with_baselines: bool,
    as_json: bool,
) -> None:
    """Make the family that the recipe `data` asks for and write it to `out`."""
    check_alone("frontier")
    wrong = [target for target in targets if not 1 < target < math.inf]
    if wrong:
        raise RecipeError(f"--speedup must be above 1 and finite, found {wrong[0]:g}; correct it")
    context = Context(make_recipe(data), Path())
    check_target(out, "frontier")
    context.check(["train"] if isinstance(context.task, TextTask) else SPLITS)
    if not can_judge(context.teacher):
        raise DataError(
            "frontier compares sequence classifiers, regressors and encoders, found "
            f"{type(context.teacher).__name__}; use `prune --texts FILE --speedup X`"
        )
    if head_of(context.teacher).embeds:
        context.similar_pairs()  # so that what cannot be read is told before the work
    with progress() as report, writing(out, "frontier") as folder:
        found = Frontier(context, targets, folder, report)(with_baselines=with_baselines)
        write_frontier(found, folder)
    if as_json:
        console.print_json(json.dumps(found))
        return
    rows = [
        [
            point["name"],
            point["variant"],
            f"{point['predicted_speedup']:.2f}×" if point["predicted_speedup"] else "",
            f"{point['speedup']:.2f}× ({point['speedup_low']:.2f} to {point['speedup_high']:.2f})",
            f"{point['retention']:.1%}",
            f"{point['error']:.2g}" if point["error"] is not None else "",
        ]
        for point in found["points"]
    ]
    header = ["", "variant", "predicted", "measured", f"{found['metric']} kept", "calibr. error"]
    table(f"{context.recipe.model} at {found['workloads']} tokens", header, rows, left=(0, 1))
    for row in found["missed"]:
        found_to_be = f"measured {row['speedup']:.2f}× ({row['low']:.2f} to {row['high']:.2f})"
        said = "missed" if row["verdict"] == "fail" else "not proven"
        console.print(f"{row['target']:g}× {said}: {found_to_be}")
    for row in found["unreached"]:
        console.print(f"{row['target']:g}× not reached: {row['reason']}", soft_wrap=True)
    for row in found["refused"]:
        console.print(f"{row['target']:g}× without int8: {row['reason']}", soft_wrap=True)
    if found["knee"]:
        console.print(f"knee: {found['knee']}")
    console.print(f"frontier: {out / 'frontier.html'}", soft_wrap=True)
