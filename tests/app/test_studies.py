"""The studies on tiny models of several families: what they write, repeat, and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from compress.checkpoint.checkpoint import load, save
from compress.learned import Descent, Pace
from compress.model.binding import bind
from compress.model.surgery import apply_
from compress_export.language import blocks_of, masked_batches
from compress_export.stages import file_hashes
from compress_export.studies.adapt.cells import PUBLISHED, Effort
from compress_export.studies.heads.ranking import by_layer, plan_without
from compress_export.studies.heads.sights import Sight, Text
from compress_export.studies.layers.cells import likeness
from tests.app.test_pipeline import write_csv
from tests.app.test_training import TASK, cli
from tests.families import batch, tiny, uneven
from tests.tokenizer import tiny_tokenizer

QUICK = ("--task", "task.yaml", "--quick", "--train", 48, "--epochs", 1, "--max-length", 16)
QUICK_ALONE = (*QUICK, "--jobs", 1)


def stage(folder: Path, family: str = "bert", head: str = "masked") -> None:
    """A model that was not fine-tuned, data and running text."""
    tiny(family, seed=1, head=head).save_pretrained(folder / "base")
    tiny_tokenizer(family).save_pretrained(folder / "base")
    write_csv(folder / "train.csv", 64)
    write_csv(folder / "validation.csv", 40)
    (folder / "task.yaml").write_text(TASK)
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, 94, (300, 10), generator=generator).tolist()
    lines = [" ".join(f"w{i}" for i in line) for line in words]
    (folder / "text.txt").write_text("\n\n".join(lines))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    stage(tmp_path)
    return tmp_path


def claims(folder: Path) -> list[dict[str, str]]:
    """Of a study; its report and data must be there."""
    found: list[dict[str, str]] = json.loads((folder / "study.json").read_text())["claims"]
    page = (folder / "report.md").read_text()
    assert all(claim["says"] in page for claim in found)
    assert {claim["verdict"] for claim in found} <= {"held", "failed", "undecided"}
    for line in page.splitlines():
        if line.startswith("!["):
            assert (folder / line[line.rindex("(") + 1 : -1]).read_text().startswith("<svg")
        if line.startswith("- `data/"):
            assert pq.read_table(folder / line.split("`")[1]).num_rows > 0
    return found


@pytest.mark.parametrize("family", ["bert", "roberta", "albert"])
def test_study_heads_of_every_loss(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stage(tmp_path, family)
    options = ["--model", "base", "--texts", "text.txt", "--out", "out", *QUICK_ALONE]
    assert cli("study", "heads", *options) == 0
    assert len(claims(tmp_path / "out")) == 6
    rows = pq.read_table(tmp_path / "out/data/importance.parquet").to_pylist()
    assert {r["of"] for r in rows} == {
        *("mlm", "mlm-again", "mlm-self"),
        *("task", "task-self", "task-mlm"),
    }
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out/cells").iterdir()}
    assert cli("study", "heads", *options) == 0
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "out/cells").iterdir()}


@pytest.mark.parametrize("study", ["heads", "masks", "adapt", "layers", "knowledge"])
@pytest.mark.parametrize("family", ["roberta", "albert", "xlnet"])
def test_every_study_takes_every_kind_of_family(
    family: str, study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if study == "heads" and family != "xlnet":
        pytest.skip("with the loss of masked tokens, above")
    monkeypatch.chdir(tmp_path)
    stage(tmp_path, family, "plain")
    assert cli("study", study, "--model", "base", "--out", "out", *QUICK_ALONE) == 0
    assert claims(tmp_path / "out")


@pytest.mark.parametrize("study", ["layers", "adapt"])
def test_pairs_numbers_and_several_seeds_are_studied_too(project: Path, study: str) -> None:
    for name in ("train.csv", "validation.csv"):
        _, *lines = Path(name).read_text().splitlines()
        rows = [line.rsplit(",", 1) for line in lines]
        pairs = [f"{text},{text[::2] or text},{int(label) * 1.5}" for text, label in rows]
        Path(name).write_text("\n".join(["one,two,score", *pairs]))
    Path("task.yaml").write_text(
        "{train: train.csv, validation: validation.csv, text: [one, two], label: score, "
        "regression: true}"
    )
    seeds = ("--seed", 0, "--seed", 1)
    assert cli("study", study, "--model", "base", "--out", "out", *QUICK_ALONE, *seeds) == 0
    assert claims(Path("out"))
    assert "left out of the verdicts" in Path("out/report.md").read_text()


def test_a_strategy_that_can_drop_no_such_number_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    stage(tmp_path, "albert")
    options = ["--model", "base", "--strategy", "bottom", "--out", "out", *QUICK_ALONE]
    assert cli("study", "layers", *options) == 2
    assert "layers are shared" in capsys.readouterr().err


def test_parallel_cells_give_what_one_process_gives(project: Path) -> None:
    for jobs in (1, 2):
        options = ["--model", "base", "--out", f"out{jobs}", *QUICK, "--jobs", jobs, "--updates", 3]
        assert cli("study", "adapt", *options) == 0
    one, two = (pq.read_table(f"out{jobs}/data/points.parquet").to_pylist() for jobs in (1, 2))
    assert one == two


def test_as_many_updates_as_the_papers_move_as_the_papers() -> None:
    few, many = (Effort(steps=steps, train=8) for steps in (PUBLISHED - 1, PUBLISHED))
    assert few.of_weights(1) == Pace(seed=1)
    assert many.of_weights(1) == Descent.within(PUBLISHED, 1)
    assert many.epochs == 10


def test_removed_units_give_what_masked_ones_gave(project: Path) -> None:
    assert cli("study", "adapt", "--model", "base", "--out", "out", *QUICK_ALONE) == 0
    rows = pq.read_table("out/data/runs.parquet").to_pylist()
    gaps = [row["gap"] for row in rows if row["kind"] == "units"]
    assert gaps
    assert max(gaps) < 1e-4
    served = pq.read_table("out/data/served.parquet").to_pylist()
    assert all(row["metric"] == row["alone"] for row in served)


def test_mlm_head_leaves_the_encoder_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stage(tmp_path, head="plain")
    options = ["--texts", "text.txt", "--out", "out", "--max-length", 16, "--epochs", 2]
    assert cli("study", "mlm-head", "--model", "base", *options) == 0
    before, after = load("base").state_dict(), load("out/checkpoint").base_model.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    tied = load("out/checkpoint")
    assert tied.get_output_embeddings().weight is tied.get_input_embeddings().weight
    assert not (tmp_path / "out/training").exists()
    facts = json.loads((tmp_path / "out/checkpoint/training.json").read_text())
    assert facts["figures"]["after"] < facts["figures"]["before"]


def test_mlm_pretrain_makes_an_encoder_that_heads_can_be_studied_of(project: Path) -> None:
    sizes = ["hidden_size=16", "num_hidden_layers=2", "num_attention_heads=4"]
    options = [part for size in [*sizes, "intermediate_size=24"] for part in ("--set", size)]
    options += ["--texts", "text.txt", "--vocabulary", 320, "--max-length", 16, "--out", "small"]
    assert cli("study", "mlm-pretrain", "--family", "roberta", *options) == 0
    model = load("small/checkpoint")
    assert type(model).__name__ == "RobertaForMaskedLM"
    study = ["--model", "small/checkpoint", "--texts", "text.txt", "--out", "out", *QUICK_ALONE]
    assert cli("study", "heads", *study) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["heads", "--model", "base"], "--texts must name running text"),
        (["heads", "--model", "nowhere"], "'nowhere'"),
        (["heads", "--model", "plain", "--texts", "text.txt"], "study mlm-head --model plain"),
        (["heads", "--model", "xlnet", "--texts", "text.txt"], "not pre-trained by"),
        (["masks"], "--model must name what to fine-tune"),
        (["masks", "--teacher", "base"], "--teacher must be TASK=CHECKPOINT"),
        (["masks", "--teacher", "x=base"], "--teacher must be of one of"),
        (["masks", "--model", "base", "--teacher", "task=other"], "another shape"),
        (["masks", "--model", "base", "--teacher", "task=plain"], "must be a sequence classifier"),
        (["layers", "--model", "base", "--drop", 3], "--drop must be 1 to 2"),
        (["masks", "--model", "base", "--teacher", "task=wide"], "must have the vocabulary of"),
        (["layers", "--model", "base", "--strategy", "best"], "--strategy must be among"),
        (["knowledge", "--model", "base", "--width", 2], "CacheSpec.feature_fraction: 2.0 is not"),
        (["knowledge", "--model", "base", "--depth", 9], "--depth must be at most"),
        (["knowledge", "--model", "base", "--student", "plain"], "--student must be a sequence"),
        (["adapt", "--model", "base", "--task", "task.yaml"], "each task once"),
        (["adapt", "--model", "base", "--task", "nothing"], "nothing"),
    ],
)
def test_wrong_questions_are_refused_before_any_work(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[object], said: str
) -> None:
    tiny("bert", head="plain").save_pretrained("plain")
    tiny("bert", intermediate_size=48).save_pretrained("other")
    tiny("xlnet", head="plain").save_pretrained("xlnet")
    tiny("bert", vocab_size=120).save_pretrained("wide")
    for folder in ("plain", "other", "xlnet", "wide"):
        tiny_tokenizer().save_pretrained(folder)
    assert cli("study", *arguments, "--out", "out", *QUICK_ALONE) == 2
    told = capsys.readouterr().err
    assert said in " ".join(told.split())
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mlm-head", "--model", "xlnet", "--texts", "text.txt"], "no head for masked"),
        (["mlm-head", "--model", "base", "--texts", "none.txt"], "--texts must be"),
        (["mlm-head", "--model", "pruned", "--texts", "text.txt"], "in stock shapes"),
        (["mlm-head", "--model", "base", "--texts", "empty"], "--texts must hold text"),
        (
            ["mlm-head", "--model", "base", "--texts", "text.txt", "--learning-rate", "nan"],
            "--learning-rate must be",
        ),
        (["mlm-pretrain", "--family", "gpt2", "--texts", "text.txt"], "--family must be"),
        (
            ["mlm-pretrain", "--family", "bert", "--texts", "text.txt", "--set", "hidden_size=x"],
            "--set must fit",
        ),
        (
            ["mlm-pretrain", "--family", "bert", "--texts", "text.txt", "--tokenizer", "x.model"],
            "--tokenizer",
        ),
    ],
)
def test_wrong_text_and_families_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[object], said: str
) -> None:
    tiny("xlnet", head="plain").save_pretrained("xlnet")
    tiny_tokenizer().save_pretrained("xlnet")
    Path("empty").mkdir()
    pruned = tiny("bert")
    plan = uneven(bind(pruned).shape)
    apply_(pruned, plan)
    save(pruned, plan, Path("pruned"), tiny_tokenizer())
    assert cli("study", *arguments, "--out", "out", "--max-length", 16) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not Path("out").exists()


def test_a_folder_of_something_else_is_left_alone(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    assert cli("study", "adapt", "--model", "base", "--out", "mine", *QUICK_ALONE) == 2
    assert "--out must be a folder of an earlier" in capsys.readouterr().err
    assert [p.name for p in Path("mine").iterdir()] == ["notes.txt"]


def test_a_study_of_another_model_is_not_written_over(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny("bert", num_hidden_layers=2).save_pretrained("other")
    tiny_tokenizer().save_pretrained("other")
    assert cli("study", "layers", "--model", "base", "--out", "out", *QUICK_ALONE) == 0
    before = file_hashes([Path("out")], Path("out"))
    assert cli("study", "layers", "--model", "other", "--out", "out", *QUICK_ALONE) == 2
    assert "found layers of base in out" in " ".join(capsys.readouterr().err.split())
    assert file_hashes([Path("out")], Path("out")) == before


def test_blocks_hold_all_text_between_special_tokens(project: Path) -> None:
    tokenizer = tiny_tokenizer()
    lines = ["w0 w1 w2 w3 w4", "w5 w6 w7"]
    blocks = blocks_of(lines, tokenizer, 6)
    assert [b["input_ids"] for b in blocks] == [[2, 5, 6, 7, 8, 3], [2, 9, 10, 11, 12, 3]]
    first, again = (masked_batches(blocks, tokenizer, 2, 7)[0] for _ in range(2))
    assert torch.equal(first["input_ids"], again["input_ids"])


def test_text_that_judges_is_not_the_text_that_scores(project: Path) -> None:
    text = Text(path="text.txt", length=16, count=8)
    scores, judges = (text.batches("base", 0, judging=judging)[0] for judging in (False, True))
    original = [
        torch.where(b["labels"] == -100, b["input_ids"], b["labels"]) for b in (scores, judges)
    ]
    rows = [{tuple(row) for row in part.tolist()} for part in original]
    assert not rows[0] & rows[1]


def test_an_encoder_takes_the_place_of_another_under_the_same_head(project: Path) -> None:
    tiny("bert", seed=5).save_pretrained("tuned")
    text = Text(path="text.txt", length=16, count=8)
    model = Sight(source="base", text=text, encoder="tuned").model()
    tuned, base = load("tuned"), load("base")
    name = "encoder.layer.0.output.dense.weight"
    assert torch.equal(model.base_model.state_dict()[name], tuned.base_model.state_dict()[name])
    assert torch.equal(model.cls.predictions.bias, base.cls.predictions.bias)


def test_plans_remove_the_heads_that_are_named() -> None:
    shape = bind(tiny("bert")).shape
    plan = plan_without(shape, (0, 5, 6, 11))
    assert [layer.heads for layer in plan.layers] == [(1, 2, 3), (0, 3), (0, 1, 2)]


def test_layers_are_normalised_one_by_one() -> None:
    import numpy as np

    found = by_layer([np.array([3.0, 4.0]), np.array([0.0, 2.0])])
    np.testing.assert_allclose(np.concatenate(found), [0.6, 0.8, 0.0, 1.0])


def test_likeness_is_one_on_the_diagonal_and_free_of_rotation() -> None:
    found = likeness(bind(tiny("bert")), [batch()])
    torch.testing.assert_close(found.diagonal(), torch.ones(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found, found.T)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1 + 1e-6
