"""Masked language modelling as a module: tied tensors are saved once and come back as all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from compress.training.masked_language import MaskedLanguageLearner
from compress.training.spec import TrainSpec
from compress.training.trainer import train_
from compress_export.language import masking
from tests.families import every_head, tiny
from tests.tokenizer import tiny_tokenizer

MASKED = [family for family, head in every_head() if head == "masked"]


class Killed(TrainerCallback):
    """Stands for a kill at some step."""

    def on_step_end(self, args: object, state: object, control: object, **_: object) -> None:
        """Fall over at the fifth."""
        if getattr(state, "global_step", 0) == 5:
            raise KeyboardInterrupt


@pytest.mark.parametrize("family", MASKED)
def test_what_was_saved_is_loaded_under_all_its_names(family: str, tmp_path: Path) -> None:
    saved = MaskedLanguageLearner(tiny(family, seed=1, head="masked"), encoder=True)
    save_file({n: t.contiguous() for n, t in saved.state_dict().items()}, tmp_path / "file")
    loaded = MaskedLanguageLearner(tiny(family, seed=2, head="masked"), encoder=True)
    found = loaded.load_state_dict(load_file(tmp_path / "file"), False)
    assert not found.missing_keys
    assert not found.unexpected_keys
    for (name, mine), theirs in zip(
        loaded.model.state_dict().items(), saved.model.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs), name


def test_a_killed_training_goes_on_with_masks_drawn_anew(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    spec = TrainSpec(epochs=2, batch_size=8, learning_rate=1e-3, dropout=0.0, looks=2)
    words = torch.randint(0, 94, (48, 10), generator=torch.Generator().manual_seed(0)).tolist()
    examples = [dict(tokenizer(" ".join(f"w{i}" for i in line))) for line in words]

    def train(folder: str, *callbacks: TrainerCallback) -> list[float]:
        module = MaskedLanguageLearner(tiny("bert", seed=1, head="masked"), encoder=True)
        curve = train_(
            module, tokenizer, examples, spec, collate=masking(tokenizer),
            folder=tmp_path / folder, callbacks=list(callbacks),
        )  # fmt: skip
        return [row["loss"] for row in curve.rows if "loss" in row]

    whole = train("a")
    with pytest.raises(KeyboardInterrupt):
        train("b", Killed())
    again = train("b")
    assert again[:3] == pytest.approx(whole[:3], rel=1e-5)
    assert len(again) == len(whole)
