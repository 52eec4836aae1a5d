"""`expand`: a pruned checkpoint back in stock shapes."""

from __future__ import annotations

from pathlib import Path

from compress.checkpoint.checkpoint import load, load_config
from compress.checkpoint.expand import save_expanded
from compress.checkpoint.stored_plan import stored_plan
from compress.errors import RecipeError
from compress_export.console import out as console
from compress_export.loading import check_checkpoint_target, load_tokenizer


def run(model: str, out: Path) -> None:
    """Write `model` in its family's stock shapes to `out`."""
    check_checkpoint_target(out, model)
    if stored_plan(load_config(model)) is None:
        raise RecipeError(
            f"model must be a pruned checkpoint, found {model!r} with no plan in its config.json; "
            "it is in stock shapes already"
        )
    save_expanded(load(model), out, load_tokenizer(model))
    console.print(f"checkpoint for plain from_pretrained: {out}", soft_wrap=True)
