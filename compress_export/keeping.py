"""From a teacher and its data to a store of what students will need; whole or not at all."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from compress.distillation.cache_spec import CacheSpec
from compress.distillation.cache_teacher import cache_teacher
from compress.distillation.identity import data_hash, fingerprint, tokenizer_hash
from compress.distillation.layer_map import layer_pairs
from compress.distillation.teacher_cache import CacheMetadata, Identity, TeacherCache, open_cache
from compress.errors import BundleError, RecipeError
from compress.files.folder import check_target, replace_folder, write_manifest
from compress.files.places import locked, work_folder
from compress.model.batches import Progress
from compress.model.binding import bind
from compress.model.task_head import head_of, n_labels_of
from compress.training.processes import is_main, wait_for_all
from compress.training.trainer import Examples
from compress_export.context import Context
from compress_export.learning import encoded
from compress_export.loading import label_names
from compress_export.stages import content_key

__all__ = ["Wanted", "keep"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What to keep, for a student of how many layers.

    Attributes:
        knowledge: How much.
        student_layers: Layers of the student; by default as many as the teacher has.
        top: The teacher's layer that the student's last learns from.
    """

    knowledge: CacheSpec
    student_layers: int | None = None
    top: int | None = None


def keep(context: Context, wanted: Wanted, out: Path, progress: Progress) -> TeacherCache:
    """Run the context's teacher over its training data, and write the store to `out`.

    A killed call is gone on with: parts that are whole stay.

    Raises:
        BundleError: `out` holds something else.
        DataError: The disk has no room.
    """
    check_target(out, "store")
    if head_of(context.teacher).suffix != "ForSequenceClassification":
        raise RecipeError(
            f"a store is of a sequence classifier or regressor, found "
            f"{type(context.teacher).__name__}; distil with the teacher beside the student"
        )
    cut = context.recipe.benchmark.max_length
    examples = encoded(context.dataset("train").texts, context.tokenizer, cut)
    facts = _facts(context, wanted, examples)
    home, mark = (work_folder(out, f"partial{end}") for end in ("", ".key"))
    with locked(out) if is_main() else nullcontext():
        if is_main():
            _own(home, mark, facts)
        wait_for_all()
        cache_teacher(context.teacher, context.tokenizer, examples, facts, home, progress)
        if is_main():
            write_manifest(home, "store")
            replace_folder(home, out)
            mark.unlink(missing_ok=True)
        wait_for_all()
    return open_cache(out)


def _facts(context: Context, wanted: Wanted, examples: Examples) -> CacheMetadata:
    shape = bind(context.teacher).shape
    n_teacher = sum(shape.uses)
    n_student = wanted.student_layers or n_teacher
    pairs = layer_pairs("uniform", n_student, n_teacher, top=wanted.top)
    return CacheMetadata(
        identity=Identity(
            teacher=fingerprint(context.teacher),
            tokenizer=tokenizer_hash(context.tokenizer),
            data=data_hash(examples),
        ),
        spec=wanted.knowledge,
        pairs=wanted.knowledge.pairs(pairs),
        n_student=n_student,
        n_layers=n_teacher,
        hidden_size=shape.hidden_size,
        n_labels=n_labels_of(context.teacher),
        labels=label_names(context.teacher),
        rows=len(examples),
        longest=max(len(example["input_ids"]) for example in examples),
    )


def _own(home: Path, mark: Path, facts: CacheMetadata) -> None:
    """Make the folder that the store grows in, and its mark; parts of another are dropped."""
    key = content_key({"facts": repr(facts)})
    if home.exists() and not mark.is_file():
        raise BundleError(
            f"{home} must be the working folder of an earlier store, found other files; move them "
            "away"
        )
    if home.exists() and mark.read_text(encoding="utf-8") != key:
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    mark.write_text(key, encoding="utf-8")
