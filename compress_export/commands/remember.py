"""`remember`: run a teacher once, and keep what students will need of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.binding import bind
from compress.distill.knowledge import Knowledge
from compress.distill.layer_map import layer_pairs
from compress.distill.remember import fingerprint, remember, tokenizer_hash
from compress.distill.store import FACTS, Identity, StoreFacts, open_store
from compress.errors import BundleError
from compress.folder import check_target, replace_folder, write_manifest
from compress.heads import n_labels_of
from compress_export.console import out as console
from compress_export.console import progress, table
from compress_export.context import Context
from compress_export.learning import data_hash, encoded
from compress_export.recipe import make_recipe
from compress_export.stages import content_key


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What to keep, for a student of how many layers.

    Attributes:
        knowledge: How much.
        student_layers: Layers of the student; by default as many as the teacher has.
        top: The teacher's layer that the student's last learns from.
    """

    knowledge: Knowledge
    student_layers: int | None = None
    top: int | None = None


def run(data: dict[str, Any], wanted: Wanted, out: Path, *, as_json: bool) -> None:
    """Write the store of the recipe `data`'s teacher and training data to `out`."""
    context = Context(make_recipe(data), Path())
    check_target(out, "store")
    context.check(["train"])
    dataset, cut = context.dataset("train"), context.recipe.benchmark.max_length
    examples = encoded(dataset.texts, context.tokenizer, cut)
    shape = bind(context.teacher).shape
    n_teacher = sum(shape.uses)
    n_student = wanted.student_layers or n_teacher
    pairs = layer_pairs("uniform", n_student, n_teacher, top=wanted.top)
    facts = StoreFacts(
        identity=Identity(
            teacher=fingerprint(context.teacher),
            tokenizer=tokenizer_hash(context.tokenizer),
            data=data_hash(dataset.texts, cut),
        ),
        knowledge=wanted.knowledge,
        pairs=wanted.knowledge.pairs(pairs),
        n_student=n_student,
        n_layers=n_teacher,
        hidden_size=shape.hidden_size,
        n_labels=n_labels_of(context.teacher),
        rows=len(examples),
        longest=max(len(example["input_ids"]) for example in examples),
    )
    home = _working_folder(out, facts)
    with progress() as report:
        remember(context.teacher, context.tokenizer, examples, facts, home, report)
    (home / "store.key").unlink()
    write_manifest(home, "store")
    replace_folder(home, out)
    _print(out, as_json)


def _working_folder(out: Path, facts: StoreFacts) -> Path:
    """Where the store grows; parts of another one that was never finished are dropped."""
    home = out.with_name(f"{out.name}.partial")
    key, mark = content_key({"facts": repr(facts)}), home / "store.key"
    if home.is_dir() and not (mark.is_file() and mark.read_text(encoding="utf-8") == key):
        others = [p for p in home.iterdir() if p.suffix not in (".arrow", ".tmp", ".key", ".json")]
        if others or not mark.is_file():
            raise BundleError(
                f"{home} must be the working folder of an earlier store, found other files; move "
                "them away"
            )
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    mark.write_text(key, encoding="utf-8")
    return home


def _print(out: Path, as_json: bool) -> None:
    store = open_store(out)
    facts = store.facts
    per_example = store.n_bytes / facts.rows
    if as_json:
        console.print_json((out / FACTS).read_text(encoding="utf-8"))
        return
    layers = ", ".join(f"{there} for {here}" for here, there in facts.pairs) or "none"
    rows = [
        ["examples", f"{facts.rows:,}"],
        ["teacher's layers, for the student's", layers],
        ["tokens an example, at most", str(facts.knowledge.length or facts.longest)],
        ["features a token", f"{facts.n_features} of {facts.hidden_size}"],
        ["bytes an example", f"{per_example:,.0f}"],
        ["bytes", f"{store.n_bytes:,}"],
    ]
    table("remembered", ["", ""], rows)
    console.print(f"store: {out}", soft_wrap=True)
