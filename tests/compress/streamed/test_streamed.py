"""Pruning from files gives what pruning in memory gives, to the bit, and gives memory back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file, save_file

from compress.checkpoint.checkpoint import load, save
from compress.errors import BundleError, CheckpointError, SpecError
from compress.model.batches import Batches, label_loss
from compress.model.binding import bind
from compress.plan.cost import CostModel, Prices
from compress.plan.plan import Plan
from compress.pruner.pruner import PrunedModel, Pruner
from compress.pruner.spec import MethodName, PruneSpec
from compress.saliency.gradient import gradient_scores
from compress.saliency.scorers import GradientScore
from compress.streamed import InFiles, load_mapped, paged, spilled
from tests.families import FAMILIES, batch, tiny

UNSHARED = [family for family in FAMILIES if family != "albert"]


def stock(family: str, folder: Path) -> Path:
    model = tiny(family, seed=3)
    save(model, Plan.full(bind(model).shape), folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        k: v for file in sorted(folder.glob("*.safetensors")) for k, v in load_file(file).items()
    }


def spec(**changes: object) -> PruneSpec:
    return PruneSpec(trials=0, round_to=4, **changes)  # type: ignore[arg-type]


def prices_of(source: Path) -> Prices:
    return CostModel(unit="macs", sequence=8).prices(bind(load_mapped(source)).shape)


def pruned(source: Path, batches: Batches, how: PruneSpec, folder: Path) -> PrunedModel:
    """The student of half the cost, pruned in memory and saved."""
    pruner = Pruner(load(source), batches, prices_of(source), how)
    student = pruner.prune_to(0.5 * pruner.dense_cost)
    save(student.model, student.plan, folder)
    return student


def streamed(
    source: Path, batches: Batches, how: PruneSpec, folder: Path, scratch: Path | None = None
) -> PrunedModel:
    """The student of half the cost, pruned in files."""
    with InFiles(source, folder, scratch=scratch) as files:
        pruner = Pruner(files, batches, prices_of(source), how)
        return pruner.prune_to(0.5 * pruner.dense_cost)


CHANGES = [
    *({"score": score} for score in get_args(MethodName) if score != "kprune"),
    {"score": "kprune", "units": ("heads", "neurons")},
    {"drop": 1, "strategy": "bottom", "steps": 1},
    {"drop": 2, "strategy": "contribution", "steps": 1},
    {"score": "magnitude", "repair": False, "steps": 1},
    {"score": "fisher", "layout": "uniform", "steps": 1},
]


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        *((family, {"score": "fisher"}) for family in UNSHARED),
        *((family, {}) for family in UNSHARED),
        *(("deberta-v2", changes) for changes in CHANGES),
    ],
)
def test_the_student_is_the_same_to_the_bit(
    family: str, changes: dict[str, object], tmp_path: Path
) -> None:
    source = stock(family, tmp_path / "teacher")
    batches = [batch(rows=16, seed=i) for i in range(4)]
    before = {k: v.clone() for k, v in weights(source).items()}
    how = spec(**({"steps": 2} | changes))
    expected = pruned(source, batches, how, tmp_path / "whole")
    found = streamed(source, batches, how, tmp_path / "streamed")
    assert found.plan == expected.plan
    assert found.cost == expected.cost
    assert found.error == pytest.approx(expected.error, rel=1e-4)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "streamed")
    assert whole.keys() == parts.keys()
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    configs = [
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("whole", "streamed")
    ]
    assert configs[0] == configs[1]
    after = weights(source)
    assert all(torch.equal(before[name], after[name]) for name in before), "the source is changed"
    loaded = load(tmp_path / "streamed")
    with torch.no_grad():
        logits = [model(**batch()).logits for model in (expected.model, loaded)]
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-5, atol=1e-6)


def test_a_quick_student_is_written_too(tmp_path: Path) -> None:
    source = stock("bert", tmp_path / "teacher")
    batches = [batch(rows=16, seed=i) for i in range(2)]
    with InFiles(source, tmp_path / "out") as files:
        pruner = Pruner(files, batches, prices_of(source), spec(score="magnitude"))
        found = pruner.prune_to(0.5 * pruner.dense_cost, quick=True)
        with pytest.raises(SpecError, match="written already"):
            pruner.prune_to(0.3 * pruner.dense_cost)
        with pytest.raises(SpecError, match="lies in files"):
            pruner.continue_from(found.model)
    assert bind(load(tmp_path / "out")).shape.fits(found.plan.student_shape)


def test_misuse_is_told_before_any_work(tmp_path: Path) -> None:
    source = stock("bert", tmp_path / "teacher")
    batches = [batch(rows=16, seed=i) for i in range(2)]
    with pytest.raises(SpecError, match="in a `with` block"):
        Pruner(InFiles(source, tmp_path / "out"), batches, prices_of(source), spec())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(BundleError, match="full"):
        InFiles(source, tmp_path / "full")


def test_a_budget_that_needs_no_cut_gives_the_model_itself(tmp_path: Path) -> None:
    source = stock("bert", tmp_path / "teacher")
    with InFiles(source, tmp_path / "out") as files:
        pruner = Pruner(files, [batch(rows=16, seed=i) for i in range(2)], prices_of(source))
        pruner.prune_to(pruner.dense_cost)
    whole, copied = weights(source), weights(tmp_path / "out")
    assert all(torch.equal(whole[name], copied[name]) for name in whole)


@pytest.mark.parametrize("changes", [{"units": ("heads", "layers")}, {"trials": 3}])
def test_what_needs_copies_in_memory_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    source = stock("bert", tmp_path / "teacher")
    how = replace(spec(), **changes)  # type: ignore[arg-type]
    with InFiles(source, tmp_path / "out") as files, pytest.raises(SpecError, match="this storage"):
        Pruner(files, [batch(rows=16, seed=i) for i in range(2)], prices_of(source), how)


@pytest.mark.parametrize("family", ["bert", "deberta", "xlnet", "modernbert"])
def test_spilled_and_paged_passes_give_the_same_gradients(family: str, tmp_path: Path) -> None:
    source = stock(family, tmp_path / "teacher")
    batches = [batch(seed=i) for i in range(2)]
    method = GradientScore(labels="given")
    expected = gradient_scores(bind(load(source)), batches, label_loss, method)
    layout = bind(load_mapped(source))
    with paged(layout) as resident, spilled(resident, tmp_path):
        found = gradient_scores(layout, batches, label_loss, method)
    for mine, theirs in zip(found.heads + found.neurons, expected.heads + expected.neurons,
                            strict=True):  # fmt: skip
        assert (mine == theirs).all()
    assert [p for p in tmp_path.iterdir() if p.name.startswith("compress-export-")] == []


def test_pages_are_given_back(tmp_path: Path) -> None:
    """A file of 64 MiB that has been read counts as memory until its pages are dropped."""
    import psutil

    save_file({"x": torch.zeros(4, 1024, 4096)}, tmp_path / "model.safetensors")
    from safetensors import safe_open

    from compress.streamed.mapped import forget

    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        tensor = file.get_tensor("x")
    process, mib = psutil.Process(), 2**20
    before = process.memory_info().rss
    assert float(tensor.sum()) == 0
    read = process.memory_info().rss - before
    forget([tensor])
    given_back = before + read - process.memory_info().rss
    assert read > 48 * mib
    assert given_back > 48 * mib
    assert float(tensor.sum()) == 0


def test_only_what_is_of_a_file_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ordinary memory that is given back would be zeros: every view must lie in a mapped file."""
    from compress.streamed import in_files, mapped, spill, write

    source = stock("modernbert", tmp_path / "teacher")
    seen = []

    def checked(views: list[torch.Tensor]) -> None:
        for view in views:
            files = [*source.parent.rglob("*.safetensors")]
            seen.append(any(mapped.is_mapped(view, file) for file in files))

    for module in (mapped, in_files, spill, write):
        monkeypatch.setattr(module, "forget", checked)
    batches = [batch(rows=16, seed=i) for i in range(2)]
    streamed(source, batches, spec(steps=2), tmp_path / "out", tmp_path)
    assert len(seen) > 100
    assert all(seen)


def test_what_cannot_be_read_in_place_is_told(tmp_path: Path) -> None:
    shared = stock("albert", tmp_path / "albert")
    with pytest.raises(CheckpointError, match="shares its layers' weights"):
        InFiles(shared, tmp_path / "out")
    half = stock("bert", tmp_path / "half")
    file = half / "model.safetensors"
    halves = {k: v.half() if v.is_floating_point() else v for k, v in load_file(file).items()}
    save_file(halves, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="must be float32 to be read in place"):
        load_mapped(half)
    renamed = {f"other.{k}": v.float() for k, v in halves.items()}
    save_file(renamed, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="by their names"):
        load_mapped(half)
    assert not (tmp_path / "out").exists()
