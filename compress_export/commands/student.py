"""`student`: an untrained student for `distill`: parts of a teacher, or a fresh smaller model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compress.checkpoint.checkpoint import load, save
from compress.checkpoint.stored_plan import stored_plan
from compress.checkpoint.tokenizer import save_tokenizer
from compress.errors import RecipeError
from compress.files.folder import writing
from compress.model.binding import bind
from compress.model.surgery import apply_
from compress.pruner.students import fresh_student, plan_of_sizes
from compress_export.console import out as console
from compress_export.console import table
from compress_export.facts import model_facts
from compress_export.loading import check_checkpoint_target, load_tokenizer


def cut(
    teacher: str,
    out: Path,
    layers: list[int] | None,
    n_heads: int | None,
    n_neurons: int | None,
) -> None:
    """Write the teacher's chosen layers, with the largest of their units, to `out`."""
    check_checkpoint_target(out, teacher)
    model, tokenizer = load(teacher), load_tokenizer(teacher)
    before = model_facts(model, _TOKENS)
    chosen = list(range(bind(model).shape.n_layers)) if layers is None else layers
    plan = plan_of_sizes(model, chosen, n_heads, n_neurons)
    apply_(model, plan)
    save(model, plan, out, tokenizer)
    _print(before, model_facts(model, _TOKENS), out)


def fresh(teacher: str, out: Path, settings: Mapping[str, object], seed: int) -> None:
    """Write a model of random weights and a changed config to `out`."""
    check_checkpoint_target(out, teacher)
    model, tokenizer = load(teacher), load_tokenizer(teacher)
    if stored_plan(model.config) is not None:
        raise RecipeError(
            f"--set changes a stock config, found the pruned {teacher!r}; name an unpruned model"
        )
    student = fresh_student(model, settings, seed)
    with writing(out, "checkpoint") as temporary:
        student.save_pretrained(temporary)
        save_tokenizer(tokenizer, temporary)
    _print(model_facts(model, _TOKENS), model_facts(student, _TOKENS), out)


_TOKENS = 64


def _print(before: dict[str, int], after: dict[str, int], out: Path) -> None:
    rows = [
        [name, f"{before[key]:,}", f"{after[key]:,}", f"{after[key] / before[key]:.1%}"]
        for name, key in (
            (f"encoder MACs at {_TOKENS} tokens", "encoder_macs"),
            ("encoder parameters", "encoder_parameters"),
            ("all parameters", "parameters"),
        )
    ]
    table("student, untrained", ["", "teacher", "student", "share"], rows)
    console.print(f"checkpoint: {out}", soft_wrap=True)
