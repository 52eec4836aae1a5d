"""Pooling as sentence-transformers does it, read from its folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from compress.errors import CheckpointError
from compress.pooling import Pooling, read_pooling

HIDDEN = torch.arange(24.0).view(2, 3, 4)
MASK = torch.tensor([[1, 1, 0], [0, 1, 1]])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls", [HIDDEN[0, 0], HIDDEN[1, 1]]),
        ("mean", [HIDDEN[0, :2].mean(0), HIDDEN[1, 1:].mean(0)]),
        ("max", [HIDDEN[0, 1], HIDDEN[1, 2]]),
    ],
)
def test_padding_is_left_out(mode: str, expected: list[torch.Tensor]) -> None:
    found = Pooling(mode=mode, normalise=False)(HIDDEN, MASK)  # type: ignore[arg-type]
    assert torch.allclose(found, torch.stack(expected))
    unit = Pooling(mode=mode)(HIDDEN, MASK)  # type: ignore[arg-type]
    assert torch.allclose(unit.norm(dim=1), torch.ones(2))


def folder(path: Path, pooling: dict[str, object], *, normalise: bool = True) -> Path:
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
    modules = [
        {"path": "" if i == 0 else f"{i}_{kind}", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return path


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True},
        {"embedding_dimension": 4, "pooling_mode": "mean"},
    ],
)
def test_the_folder_says_how(tmp_path: Path, config: dict[str, object], normalise: bool) -> None:
    found = read_pooling(folder(tmp_path, config, normalise=normalise))
    assert found == Pooling(mode="mean", normalise=normalise)


def test_other_folders_pool_nothing(tmp_path: Path) -> None:
    assert read_pooling(tmp_path) is None


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_mean_sqrt_len_tokens": True},
        {"pooling_mode": "lasttoken"},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
    ],
)
def test_unknown_pooling_is_refused(tmp_path: Path, config: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="must pool by one of cls, mean, max"):
        read_pooling(folder(tmp_path, config))


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"modules\.json must be readable JSON"):
        read_pooling(tmp_path)
