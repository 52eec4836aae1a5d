"""Pruning from files gives what pruning in memory gives, to the bit, and gives memory back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from compress.checkpoint.checkpoint import load, save
from compress.errors import CheckpointError
from compress.model.batches import label_loss
from compress.model.binding import bind
from compress.plan.cost import CostModel
from compress.plan.plan import Plan
from compress.pruner.prune import PruneSpec, prune
from compress.pruner.walk import FamilySpec, Walk
from compress.saliency.gradient import gradient_scores
from compress.saliency.scorers import GradientScore
from compress.streamed import load_mapped, paged, prune_streamed, spilled, walk_streamed
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
    return PruneSpec(share=0.5, cost=CostModel(unit="macs", sequence=8), multiple=4, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", UNSHARED)
def test_the_student_is_the_same_to_the_bit(family: str, tmp_path: Path) -> None:
    source = stock(family, tmp_path / "teacher")
    batches = [batch(seed=i) for i in range(3)]
    before = {k: v.clone() for k, v in weights(source).items()}
    pruned = prune(load(source), batches, spec(steps=2))
    save(pruned.model, pruned.plan, tmp_path / "whole")
    plan = prune_streamed(source, batches, spec(steps=2), tmp_path / "streamed")
    assert plan == pruned.plan
    whole, streamed = weights(tmp_path / "whole"), weights(tmp_path / "streamed")
    assert whole.keys() == streamed.keys()
    assert [name for name in whole if not torch.equal(whole[name], streamed[name])] == []
    configs = [
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("whole", "streamed")
    ]
    assert configs[0] == configs[1]
    after = weights(source)
    assert all(torch.equal(before[name], after[name]) for name in before), "the source is changed"
    loaded = load(tmp_path / "streamed")
    with torch.no_grad():
        expected, found = pruned.model(**batch()).logits, loaded(**batch()).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "deberta-v2", "xlnet", "modernbert", "mpnet"]
)
@pytest.mark.parametrize("steps", [1, 2])
def test_a_walk_from_files_is_the_walk(family: str, steps: int, tmp_path: Path) -> None:
    source = stock(family, tmp_path / "teacher")
    batches = [batch(rows=16, seed=i) for i in range(4)]
    walking = FamilySpec(steps=steps, trials=0, multiple=4)
    model = load(source)
    prices = CostModel(unit="macs", sequence=8).prices(bind(model).shape)
    walk = Walk(model, batches, prices, walking)
    budget = 0.5 * walk.dense_cost
    member = walk.down_to(budget)
    save(member.model, member.plan, tmp_path / "whole")
    plan = walk_streamed(source, batches, prices, budget, walking, tmp_path / "streamed")
    assert plan == member.plan
    whole, streamed = weights(tmp_path / "whole"), weights(tmp_path / "streamed")
    assert [name for name in whole if not torch.equal(whole[name], streamed[name])] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"drop": 1, "strategy": "bottom", "steps": 1},
        {"score": "magnitude", "repair": False, "steps": 1},
        {"score": "activation", "steps": 1},
    ],
)
def test_other_ways_to_prune(changes: dict[str, object], tmp_path: Path) -> None:
    source = stock("deberta-v2", tmp_path / "teacher")
    batches = [batch(seed=i) for i in range(4)]
    pruned = prune(load(source), batches, spec(**changes))
    save(pruned.model, pruned.plan, tmp_path / "whole")
    assert prune_streamed(source, batches, spec(**changes), tmp_path / "out") == pruned.plan
    whole, streamed = weights(tmp_path / "whole"), weights(tmp_path / "out")
    assert all(torch.equal(whole[name], streamed[name]) for name in whole)


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
    from compress.streamed import mapped, prune, spill, write

    source = stock("modernbert", tmp_path / "teacher")
    seen = []

    def checked(views: list[torch.Tensor]) -> None:
        for view in views:
            files = [*source.parent.rglob("*.safetensors")]
            seen.append(any(mapped.is_mapped(view, file) for file in files))

    for module in (mapped, prune, spill, write):
        monkeypatch.setattr(module, "forget", checked)
    prune_streamed(source, [batch(rows=16)], spec(steps=2), tmp_path / "out", scratch=tmp_path)
    assert len(seen) > 100
    assert all(seen)


def test_what_cannot_be_read_in_place_is_told(tmp_path: Path) -> None:
    shared = stock("albert", tmp_path / "albert")
    with pytest.raises(CheckpointError, match="shares its layers' weights"):
        prune_streamed(shared, [batch()], spec(), tmp_path / "out")
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
