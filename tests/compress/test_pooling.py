"""Pooling as sentence-transformers does it, read from its folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from compress.errors import CheckpointError
from compress.model.pooling import LIMITS, Pooling, read_pooling, write_pooling

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


@pytest.mark.parametrize("name", LIMITS)
def test_lengths_are_found_in_every_file_that_holds_them(name: str, tmp_path: Path) -> None:
    home = folder(tmp_path, {"pooling_mode": "mean"})
    (home / name).write_text(json.dumps({"max_seq_length": 77}))
    found = read_pooling(home)
    assert found is not None
    assert found.max_length == 77


def test_settings_are_carried_to_the_letter(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    home = folder(tmp_path / "a", {"pooling_mode": "mean"})
    text = '{"prompts": {"query": "query: "},  "similarity_fn_name": "dot"}'
    (home / "config_sentence_transformers.json").write_text(text)
    found = read_pooling(home)
    assert found is not None
    (tmp_path / "b").mkdir()
    write_pooling(found, 4, tmp_path / "b")
    assert (tmp_path / "b" / "config_sentence_transformers.json").read_text() == text
    assert read_pooling(tmp_path / "b") == found


def test_a_dense_module_is_refused_without_unsafe_advice(tmp_path: Path) -> None:
    home = folder(tmp_path, {"pooling_mode": "mean"})
    modules = json.loads((home / "modules.json").read_text())
    modules.append({"path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (home / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match="names Dense, which changes the vectors") as refused:
        read_pooling(home)
    assert "removing" not in str(refused.value)
