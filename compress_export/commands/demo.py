"""`demo`: the main job on a small real encoder, with no network hub."""

from __future__ import annotations

from pathlib import Path

from compress_export.commands.run import finish
from compress_export.console import out as console
from compress_export.console import progress
from compress_export.demo.teacher import prepare_demo
from compress_export.pipeline import Run
from compress_export.recipe import load_recipe


def run(out: Path, task: str | None, data: Path | None, *, as_json: bool) -> None:
    """Fine-tune, prune to half the encoder's MACs, export, measure, report into `out`."""
    with progress() as report:
        recipe = prepare_demo(out, task, data, report)
        text = recipe.read_text(encoding="utf-8")
        outcome = Run(load_recipe(recipe), text, recipe.parent, out / "run", report)()
    if task is None and not as_json:
        console.print(
            "The built-in task is synthetic: it shows the machinery, not a language benchmark. "
            "For real GLUE: --task sst2 --data DIR"
        )
    finish(outcome, as_json)
