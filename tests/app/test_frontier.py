"""`profile` and `frontier` end to end on a tiny model: written, cached, drawn, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.profile import Effort
from benchmarks.runtimes.onnxruntime import OrtModel
from compress.checkpoint.checkpoint import load
from compress.errors import TableError
from compress.files.folder import verify_folder
from compress.model.binding import bind
from compress.model.surgery import apply_
from compress.plan.latency_table import LatencyTable
from compress.plan.plan import EncoderShape
from compress_export import tables
from compress_export.context import Context
from compress_export.quality import Yardstick
from compress_export.recipe import make_recipe
from export.exporter import export_graphs
from export.layer_stacks import LayerStack, stack_sizes
from export.precision.variants import variant
from tests.app.test_cli import cli, error_of
from tests.app.test_pipeline import write_csv, write_project
from tests.families import logits, tiny, uneven
from tests.tokenizer import tiny_tokenizer

WORKLOAD = ("--batch", "2", "--sequence", "8")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests of this file, and a tiny project with bare texts."""
    folder = write_project(tmp_path_factory.mktemp("frontier"))
    lines = (folder / "train.csv").read_text().splitlines()[1:]
    (folder / "texts.txt").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    tiny("bert", head="plain").save_pretrained(folder / "encoder")
    tiny_tokenizer().save_pretrained(folder / "encoder")
    (folder / "encoder" / "modules.json").write_text(
        '[{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}]'
    )
    (folder / "encoder" / "1_Pooling").mkdir()
    (folder / "encoder" / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    return folder


def few_sizes(shape: EncoderShape) -> tuple[LayerStack, ...]:
    """The stacks of a tiny model without those that only make curves finer."""
    return tuple(s for s in stack_sizes(shape) if s.heads not in (1, 3) and s.neurons != 16)


@pytest.fixture(autouse=True)
def _cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setattr(tables, "stack_sizes", few_sizes)
    monkeypatch.setattr(tables, "TOLERATED", 100.0)
    # A model so tiny never gets tight, however long it is measured.
    monkeypatch.setitem(Effort.__init__.__kwdefaults__, "seconds", 2.0)


def run(*arguments: object) -> int:
    return cli([str(a) for a in arguments])


def test_profile_writes_draws_and_remembers(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, picture = home / "table.json", home / "table.svg"
    arguments = ("profile", home / "teacher", *WORKLOAD, "--seconds", "1", "--spread", "0.5")
    assert run(*arguments, "-o", out, "--picture", picture) == 0
    assert "outside the layers" in capsys.readouterr().out
    table = LatencyTable.load(out)
    assert [str(p.workload) for p in table.points] == ["2 × 8"]
    assert picture.read_text().startswith("<svg")

    def never(*_: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(tables, "export_stacks", never)
    assert run(*arguments, "--json") == 0
    assert LatencyTable.from_json(capsys.readouterr().out) == table
    monkeypatch.setattr(tables, "TOLERATED", 0.0)
    assert run(*arguments) == 70
    assert "measured again" in capsys.readouterr().err


def test_frontier_writes_students_that_load(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = home / "family"
    arguments = (
        "frontier", home / "teacher", "--texts", home / "texts.txt", "-o", out, *WORKLOAD,
        "--speedup", "1.05", "--speedup", "1.1", "--speedup", "400", "--calibration-examples",
        "64", "--max-length", "16",
    )  # fmt: skip
    assert run(*arguments) == 0
    printed = capsys.readouterr().out
    assert "400× not reached" in printed
    verify_folder(out)
    found = json.loads((out / "frontier.json").read_text())
    kinds = [(p["kind"], p["variant"]) for p in found["points"]]
    assert kinds.count(("unpruned", "cpu-int8")) == 1
    assert ("student", "cpu-fp32") in kinds
    assert ("baseline", "cpu-fp32") in kinds
    assert found["points"][0]["retention"] == 1.0
    assert all(p["measured_ms"] > 0 and 0 <= p["retention"] <= 1 for p in found["points"])
    assert "<svg" in (out / "frontier.html").read_text()
    assert "| 1.05× | cpu-fp32 |" in (out / "frontier.md").read_text()
    student = load(out / "students" / "1.05x" / "checkpoint")
    assert logits(student).shape == (4, 3)


def test_tables_are_of_one_depth_and_one_head(home: Path) -> None:
    tiny("bert", num_hidden_layers=4).save_pretrained(home / "deeper")
    tiny("bert", head="masked").save_pretrained(home / "masked")
    paths = set()
    for name in ("teacher", "deeper", "masked"):
        empty = tables._empty(load(home / name), variant("cpu-fp32"))
        paths.add(tables._path(empty.geometry, empty.variant, empty.machine, empty.runtime))
    assert len(paths) == 3


def test_pruned_students_have_no_table(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny("bert")
    apply_(model, uneven(bind(model).shape))
    with pytest.raises(TableError, match="layers are alike"):
        tables._empty(model, variant("cpu-fp32"))


def test_scores_of_a_reranker_are_compared_by_rank(home: Path) -> None:
    tiny("bert", num_labels=1).save_pretrained(home / "reranker")
    tiny_tokenizer().save_pretrained(home / "reranker")
    arguments = (
        "frontier", home / "reranker", "--texts", home / "texts.txt", "-o", home / "ranked",
        *WORKLOAD, "--speedup", "1.1", "--precision", "fp32", "--no-baselines", "--max-length",
        "16", "--table", home / "table.json",
    )  # fmt: skip
    assert run("profile", home / "reranker", *WORKLOAD, "--seconds", "1", "-o",
               home / "table.json") == 0  # fmt: skip
    assert run(*arguments) == 0
    found = json.loads((home / "ranked" / "frontier.json").read_text())
    assert found["metric"] == "rank correlation"
    assert 0.5 < found["points"][-1]["retention"] <= 1.0


def test_other_heads_are_pruned_to_a_speed_up_and_not_compared(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny("bert", head="question").save_pretrained(home / "answers")
    tiny_tokenizer().save_pretrained(home / "answers")
    common = (home / "answers", "--texts", home / "texts.txt", *WORKLOAD, "--max-length", "16")
    message = error_of(capsys, "frontier", *common, "-o", home / "none")
    assert "BertForQuestionAnswering" in message
    assert run("prune", *common, "--speedup", "1.05", "-o", home / "answered") in (0, 1)
    assert load(home / "answered").config.model_type == "bert"


def test_embedding_models_tell_cosines_and_neighbours(home: Path) -> None:
    out = home / "embedders"
    arguments = (
        "frontier", home / "encoder", "--texts", home / "texts.txt", "-o", out, *WORKLOAD,
        "--speedup", "1.05", "--no-baselines", "--precision", "fp32", "--calibration-examples",
        "60", "--max-length", "16", "--units", "neurons,sublayers,heads,layers",
    )  # fmt: skip
    assert run(*arguments) == 0
    found = json.loads((out / "frontier.json").read_text())
    assert found["metric"] == "mean cosine"
    assert 0.5 < found["points"][-1]["retention"] <= 1.0001
    assert 0 <= found["points"][-1]["neighbours"] <= 1


def test_embedding_models_are_judged_by_similar_pairs_where_there_are_some(home: Path) -> None:
    lines = (home / "texts.txt").read_text().splitlines()
    pairs = list(zip(lines, lines[7:27], strict=False))
    context = Context(
        make_recipe(
            {
                "model": str(home / "encoder"),
                "task": {"texts": home / "texts.txt"},
                "data": home / "glue",
                "benchmark": {"max_length": 16, "sequences": [8]},
                "target": {"sequence": 8},
            }
        ),
        home,
    )
    by_torch = [similarity(context, pair) for pair in pairs]
    rows = [f"{a}\t{b}\t{cosine}" for (a, b), cosine in zip(pairs, by_torch, strict=True)]
    (home / "glue" / "STS-B").mkdir(parents=True)
    (home / "glue" / "STS-B" / "dev.tsv").write_text(
        "\n".join(["sentence1\tsentence2\tscore", *rows]) + "\n"
    )
    graph = home / "encoder.onnx"
    export_graphs(context.teacher, context.names, [variant("cpu-fp32")], [graph])
    model = OrtModel(graph)
    yardstick = Yardstick(context, model)
    kept = yardstick.kept(model)
    assert (yardstick.metric, yardstick.examples) == ("STS-B spearman", len(rows))
    assert kept["teacher"] == pytest.approx(1.0, abs=1e-3)
    assert kept["retention"] == 1.0
    assert kept["low"] <= 1.0 <= kept["high"]
    assert kept["cosine"] == pytest.approx(1.0)


def similarity(context: Context, texts: tuple[str, str]) -> float:
    """Cosine of two texts' mean token states, by torch."""
    means = []
    for text in texts:
        inputs = context.tokenizer(text, truncation=True, max_length=16, return_tensors="pt")
        with torch.no_grad():
            means.append(context.teacher(**inputs).last_hidden_state[0].mean(0))
    return float(torch.cosine_similarity(means[0], means[1], dim=0))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--table", "none.json"), "must be a readable file, found none"),
        (("--speedup", "0.5"), "--speedup must be above 1 and finite, found 0.5"),
        (("--units", "heads,tails"), "--units: input should be"),
        (("--precision", "fp16"), "precision 'fp16' does not run on cpu"),
        (("--calibration-examples", "1"), "examples would do"),
        (("--sequence", "999"), "target.sequence must be at most 48"),
    ],
)
def test_wrong_input_is_one_line(
    more: tuple[str, ...], message: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["frontier", home / "teacher", "--texts", home / "texts.txt", "-o", home / "x"]
    found = error_of(capsys, *arguments, *WORKLOAD, "--max-length", "16", *more)
    assert message in found.splitlines()[-1]
    assert not (home / "x").exists()


def test_a_foreign_table_is_refused_unless_forced(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("profile", home / "teacher", *WORKLOAD, "--seconds", "1", "-o", home / "t.json") == 0
    data = json.loads((home / "t.json").read_text())
    (home / "foreign.json").write_text(json.dumps(data | {"machine": {"cpu": "another"}}))
    capsys.readouterr()
    recipe = (home / "recipe.yaml").read_text()
    wanted = recipe.replace("macs: 0.5", "speedup: 1.05, table: foreign.json")
    (home / "fast.yaml").write_text(wanted)
    assert "target.force_table" in error_of(capsys, "run", home / "fast.yaml", "-o", home / "out")
    (home / "fast.yaml").write_text(wanted.replace("1.05,", "1.05, force_table: true,"))
    assert run("run", home / "fast.yaml", "-o", home / "out") in (0, 1, 3)
    report = json.loads((home / "out" / "report.json").read_text())
    assert report["promise"]["speedup"] == 1.05
    assert report["promise"]["attempts"][-1]["variant"] == "cpu-fp32"
    assert [g["name"] for g in report["gates"]] == ["speedup"]


def test_a_mix_of_real_lengths_is_a_target(home: Path) -> None:
    write_csv(home / "train.csv", 80)
    recipe = (home / "recipe.yaml").read_text()
    wanted = recipe.replace("macs: 0.5", "speedup: 1.02, mix: data, precision: [fp32, int8]")
    (home / "mix.yaml").write_text(wanted.replace("[cpu-fp32, portable]", "[cpu-fp32, cpu-int8]"))
    assert run("run", home / "mix.yaml", "-o", home / "mixed") in (0, 1, 3)
    promise = json.loads((home / "mixed" / "report.json").read_text())["promise"]
    assert sum(point["share"] for point in promise["mix"]) == pytest.approx(1.0)
    assert {a["variant"] for a in promise["attempts"]} <= {"cpu-fp32", "cpu-int8"}


def test_an_unreachable_target_tells_the_fastest_and_what_it_keeps(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = (home / "recipe.yaml").read_text().replace("macs: 0.5", "speedup: 500")
    (home / "dream.yaml").write_text(recipe)
    assert run("run", home / "dream.yaml", "-o", home / "dream") == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "target 500× cannot be reached" in message
    assert "% of accuracy" in message
    assert not (home / "dream").exists()
