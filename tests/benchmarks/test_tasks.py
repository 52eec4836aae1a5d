"""Real and broken task files: columns, labels, metrics, tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.tasks import (
    GLUE,
    METRICS,
    Dataset,
    FileTask,
    encode_labels,
    glue_task,
    predictions,
    tokenise,
)
from benchmarks.tasks.glue import GlueTask, read_tsv
from compress.errors import DataError
from compress_export.demo.sentences import generate
from tests.tokenizer import tiny_tokenizer

SIZES = {
    "cola": (8551, 1043), "sst2": (67349, 872), "mrpc": (3668, 408), "rte": (2490, 277),
    "stsb": (5749, 1500), "wnli": (635, 71),
}  # fmt: skip


def found(name: str) -> GlueTask:
    task = glue_task(name)
    assert task is not None
    return task


@pytest.mark.parametrize("name", SIZES)
def test_official_files_are_read_whole(name: str, glue_dir: Path) -> None:
    task = found(name)
    train, validation = (task.load(s, glue_dir) for s in ("train", "validation"))  # type: ignore[arg-type]
    assert (len(train), len(validation)) == SIZES[name]
    names = {n: i for i, n in enumerate(task.labels)} or {"LABEL_0": 0}
    labels = encode_labels(validation, names)
    assert len(labels) == len(validation)
    assert all(len(texts) == len(task.text) for texts in validation.texts)


def test_qnli_dev_is_read(glue_dir: Path) -> None:
    data = found("qnli").load("validation", glue_dir)
    assert len(data) == 5463
    assert set(data.labels) == {"entailment", "not_entailment"}


def test_mrpc_without_its_byte_order_mark_and_with_its_quotes(glue_dir: Path) -> None:
    data = found("mrpc").load("validation", glue_dir)
    assert data.texts[0][1].startswith('" The foodservice')


def test_all_nine_tasks_are_there() -> None:
    assert sorted(t.name for t in GLUE) == sorted([*SIZES, "qnli", "qqp", "mnli"])
    assert all(metric in METRICS for task in GLUE for metric in task.metrics)


def dataset(labels: list[str], names: tuple[str, ...] = (), regression: bool = False) -> Dataset:
    return Dataset(
        name="t",
        split="validation",
        texts=tuple(("w1",) for _ in labels),
        labels=tuple(labels),
        label_names=names,
        regression=regression,
    )


def test_the_models_own_label_order_wins() -> None:
    """MNLI models order their labels differently; names decide."""
    mnli = dataset(["neutral", "entailment"], ("entailment", "neutral", "contradiction"))
    model = {"CONTRADICTION": 0, "NEUTRAL": 1, "ENTAILMENT": 2}
    assert encode_labels(mnli, model).tolist() == [1, 2]


def test_a_digit_stands_for_the_tasks_name() -> None:
    """The Hub gives MNLI's labels as digits; the model may order the names otherwise."""
    mnli = dataset(["0", "1", "2"], ("entailment", "neutral", "contradiction"))
    model = {"CONTRADICTION": 0, "NEUTRAL": 1, "ENTAILMENT": 2}
    assert encode_labels(mnli, model).tolist() == [2, 1, 0]
    sst2 = dataset(["0", "1"], ("negative", "positive"))
    assert encode_labels(sst2, {"POSITIVE": 0, "NEGATIVE": 1}).tolist() == [1, 0]
    assert encode_labels(dataset(["0", "1"]), {"no": 0, "yes": 1}).tolist() == [0, 1]


def test_unnamed_labels_take_the_tasks_order() -> None:
    data = dataset(["not_entailment", "0"], ("entailment", "not_entailment"))
    assert encode_labels(data, {"LABEL_0": 0, "LABEL_1": 1}).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("data", "label2id", "message"),
    [
        (dataset(["0", "5"], ("a", "b")), {"a": 0, "b": 1}, r"example 2: label must be among"),
        (dataset(["0"], ("a", "b", "c")), {"a": 0, "b": 1}, "has the 3 labels"),
        (dataset(["0"], ("a", "b")), {"LABEL_0": 0}, "a class per label, found 1 label"),
        (dataset(["1.5"], regression=True), {"a": 0, "b": 1}, "one output"),
        (dataset(["1.5", "x"], regression=True), {"a": 0}, "example 2: label must be a finite"),
        (dataset(["nan"], regression=True), {"a": 0}, "finite"),
    ],
)
def test_labels_that_do_not_fit_are_named(
    data: Dataset, label2id: dict[str, int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        encode_labels(data, label2id)


def test_broken_tsv_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "SST-2"
    task = found("sst2")
    with pytest.raises(DataError, match=r"SST-2/dev\.tsv for task 'sst2', found none"):
        task.load("validation", tmp_path)
    folder.mkdir()
    for text, message in (
        ("text\tlabel\nfine\t1\n", "must have the column 'sentence'"),
        ("sentence\tlabel\n", "must not be empty"),
        ("sentence\tlabel\nfine\n", r"line 2: a line must have 2 columns, found 1"),
    ):
        (folder / "dev.tsv").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            task.load("validation", tmp_path)
    (folder / "dev.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="readable UTF-8"):
        task.load("validation", tmp_path)


def test_windows_line_ends_and_marks_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_bytes(b'\xef\xbb\xbfsentence\tlabel\r\nsay "hi\t1\r\n')
    assert read_tsv(path, ("label", "sentence")) == [("1", 'say "hi')]


def own(folder: Path, suffix: str, label: str = "stars") -> FileTask:
    return FileTask(
        train=folder / f"train{suffix}",
        validation=folder / f"validation{suffix}",
        text=("review",),
        label=label,
    )


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_own_files_are_read_in_every_format(suffix: str, tmp_path: Path) -> None:
    table = pandas.DataFrame({"id": [1, 2], "review": ["one, two", "NA"], "stars": ["0", "1"]})
    path = tmp_path / f"validation{suffix}"
    match suffix:
        case ".csv":
            table.to_csv(path, index=False)
        case ".tsv":
            table.to_csv(path, index=False, sep="\t")
        case ".jsonl":
            table.to_json(path, orient="records", lines=True)
        case ".parquet":
            table.to_parquet(path)
    data = own(tmp_path, suffix).load("validation")
    assert data.texts == (("one, two",), ("NA",))
    assert data.labels == ("0", "1")


def test_own_files_that_are_wrong_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"validation\.csv must be a file"):
        own(tmp_path, ".csv").load("validation")
    (tmp_path / "validation.csv").write_text("review,stars\nfine,1\n")
    with pytest.raises(DataError, match="must have the column 'rating'"):
        own(tmp_path, ".csv", "rating").load("validation")
    (tmp_path / "validation.xls").write_text("review")
    with pytest.raises(DataError, match=r"must end in \.csv"):
        own(tmp_path, ".xls").load("validation")
    (tmp_path / "validation.csv").write_text("review,stars\n")
    with pytest.raises(DataError, match="must not be empty"):
        own(tmp_path, ".csv").load("validation")


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_tokens_keep_every_row_once_and_pad_little(family: str) -> None:
    texts = [(" ".join(["w3"] * n), "w4") for n in (9, 1, 5, 2, 7)]
    batches = list(tokenise(texts, tiny_tokenizer(family), batch_size=2, max_length=10))
    rows = np.concatenate([b.rows for b in batches])
    assert sorted(rows) == list(range(5))
    assert batches[0].inputs["input_ids"].shape == (2, 6)
    assert max(b.inputs["input_ids"].shape[1] for b in batches) == 10


def test_metrics_agree_with_hand_computed_values() -> None:
    labels, predicted = np.array([1, 1, 0, 0.0]), np.array([1, 0, 0, 0.0])
    assert METRICS["accuracy"](labels, predicted) == 0.75
    assert METRICS["f1"](labels, predicted) == pytest.approx(2 / 3)
    assert METRICS["matthews"](labels, predicted) == pytest.approx(2 / np.sqrt(1 * 3 * 2 * 2))
    assert METRICS["spearman"](np.array([1, 2, 3.0]), np.array([1, 4, 9.0])) == pytest.approx(1)
    assert METRICS["pearson"](np.array([1, 2, 3.0]), np.array([5, 5, 5.0])) == 0
    assert predictions(np.array([[0.1, 0.9], [0.8, 0.2]], np.float32)).tolist() == [1, 0]


def test_demo_sentences_are_deterministic_balanced_and_hard_for_a_bag_of_words() -> None:
    train, validation = generate("train", 3000), generate("validation", 1000)
    assert train == generate("train", 3000)
    assert 0.45 < np.mean([label == "positive" for label in train.labels]) < 0.55
    vectors = CountVectorizer(ngram_range=(1, 1)).fit(t for (t,) in train.texts)
    model = LogisticRegression(max_iter=1000)
    model.fit(vectors.transform(t for (t,) in train.texts), train.labels)
    assert model.score(vectors.transform(t for (t,) in validation.texts), validation.labels) < 0.8


@pytest.mark.parametrize("name", ["mnli", "stsb", "sst2"])
def test_without_data_the_hub_is_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task, asked = found(name), []

    def load_dataset(path: str, config: str, split: str) -> list[dict[str, object]]:
        asked.append((path, config, split))
        return [{**dict.fromkeys(task.hub_text, "w1"), "label": 1, "idx": 0}]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    data = task.load("validation", None)
    assert asked == [("nyu-mll/glue", name, task.validation[1])]
    assert data.texts == (("w1",) * len(task.text),)
    assert data.labels == ("1",)


def test_a_hub_out_of_reach_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(DataError, match="set data to a folder"):
        found("sst2").load("train", None)
