"""`remember`: run a teacher once, and keep what students will need of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.distillation.teacher_cache import FACTS, TeacherCache
from compress.files.folder import check_target
from compress.training.processes import is_main
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.context import Context
from compress_export.keeping import Wanted, keep
from compress_export.recipe import make_recipe


def run(
    data: dict[str, Any], wanted: Wanted, more_texts: Path | None, out: Path, *, as_json: bool
) -> None:
    """Write the store of the recipe `data`'s teacher and training data to `out`."""
    context = Context(make_recipe(data), Path())
    check_target(out, "store")
    context.check(["train"])
    if more_texts is not None:
        context.add(more_texts)
    with progress() as report:
        store = keep(context, wanted, out, report)
    if is_main():
        _print(store, as_json)


def _print(store: TeacherCache, as_json: bool) -> None:
    facts = store.metadata
    if as_json:
        console.print_json((store.folder / FACTS).read_text(encoding="utf-8"))
        return
    layers = ", ".join(f"{there} for {here}" for here, there in facts.pairs) or "none"
    rows = [
        ["examples", f"{facts.rows:,}"],
        ["teacher's layers, for the student's", layers],
        ["tokens an example, at most", str(facts.spec.max_tokens or facts.longest)],
        ["features a token", f"{facts.n_features} of {facts.hidden_size}"],
        ["bytes an example", f"{store.n_bytes / facts.rows:,.0f}"],
        ["bytes", f"{store.n_bytes:,}"],
    ]
    table("remembered", ["", ""], rows)
    console.print(f"store: {store.folder}", soft_wrap=True)
