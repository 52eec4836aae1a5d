"""Real and broken task files: columns, labels, metrics, tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.accuracy import doubt, in_task_order
from benchmarks.tasks import (
    GLUE,
    METRICS,
    Dataset,
    FileTask,
    class_names,
    encode_labels,
    glue_task,
    predictions,
    tokenise,
)
from benchmarks.tasks.glue import GlueTask, read_tsv
from benchmarks.tasks.tables import read_lines, read_table
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
    for labels in (["not_entailment", "entailment"], ["1", "0"]):
        data = dataset(labels, ("entailment", "not_entailment"))
        assert encode_labels(data, {"LABEL_0": 0, "LABEL_1": 1}).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("data", "label2id", "message"),
    [
        (dataset(["0", "5"], ("a", "b")), {"a": 0, "b": 1}, r"example 2: label '5' is not one of"),
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
    with pytest.raises(DataError, match="has no column 'rating'"):
        own(tmp_path, ".csv", "rating").load("validation")
    (tmp_path / "validation.xls").write_text("review")
    with pytest.raises(DataError, match="must be of csv"):
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


@pytest.mark.parametrize(
    ("labels", "label2id"),
    [
        (["1", "2", "5"], {"1": 0, "2": 1, "3": 2, "4": 3, "5": 4}),
        (["0", "1"], {"LABEL_0": 0, "LABEL_1": 1}),
        (["0.0", "False", "1"], {"LABEL_0": 0, "LABEL_1": 1}),
        ([" yes ", "NO"], {"yes": 1, "no": 0}),
        (["True", "False"], {"True": 0, "False": 1}),
        (["A", "a"], {"A": 0, "a": 1}),
        (["LABEL_0", "LABEL_1"], {"LABEL_0": 0, "LABEL_1": 1}),
    ],
)
def test_a_set_of_labels_has_one_reading(labels: list[str], label2id: dict[str, int]) -> None:
    found = encode_labels(dataset(labels), label2id).astype(int).tolist()
    expected = {3: [0, 1, 4] if len(label2id) == 5 else [0, 0, 1], 2: [0, 1]}[len(labels)]
    assert found == ([1, 0] if "yes" in label2id else expected)


@pytest.mark.parametrize(
    ("data", "label2id", "message"),
    [
        (dataset(["0", "1", "4"]), {str(i + 1): i for i in range(5)}, "label '0' is not one of"),
        (dataset(["yes", "0"]), {"no": 0, "yes": 1}, "label '0' is not one of"),
        (dataset(["ham"]), {"LABEL_0": 0, "LABEL_1": 1}, "does not name its own"),
        (dataset(["[0, 1]"]), {"LABEL_0": 0, "LABEL_1": 1}, "lists several labels"),
        (
            dataset(["neutral"], ("entailment", "neutral", "contradiction")),
            {"entails": 0, "neutral": 1, "contradiction": 2},
            "rename the labels in its config.json",
        ),
        (
            dataset(["1"], ("negative", "positive")),
            {"pos": 0, "neg": 1},
            "rename the labels in its config.json",
        ),
    ],
)
def test_labels_that_could_be_read_in_two_ways_are_refused(
    data: Dataset, label2id: dict[str, int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        encode_labels(data, label2id)


def test_numbers_are_refused_where_the_models_names_count_otherwise() -> None:
    stars = {f"{i + 1} stars": i for i in range(5)}
    with pytest.raises(DataError, match="count otherwise"):
        encode_labels(dataset(["1", "2", "4"]), stars)


def test_classes_stand_in_a_sensible_order() -> None:
    assert class_names(["10", "2", "1.0", "2"]) == ["1", "2", "10"]
    assert class_names([" spam", "ham "]) == ["ham", "spam"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["yes"] * 3, "one class alone"),
        ([f"{i / 10}" for i in range(1, 52)], "set task.regression"),
        (["Yes", "yes", "no"], "several ways"),
    ],
)
def test_columns_that_are_no_classes_are_refused(labels: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        class_names(labels)


def test_f1_is_of_the_tasks_positive_class_whichever_output_it_is() -> None:
    data = dataset(["not_duplicate", "duplicate", "duplicate", "not_duplicate"],
                   ("not_duplicate", "duplicate"))  # fmt: skip
    turned = {"duplicate": 0, "not_duplicate": 1}
    logits = np.array([[0.0, 1], [1, 0], [0, 1], [0, 1]], np.float32)
    labels, ordered = in_task_order(data, turned, encode_labels(data, turned), logits)
    assert labels.tolist() == [0, 1, 1, 0]
    assert METRICS["f1"](labels, predictions(ordered)) == pytest.approx(2 / 3)


def test_a_teacher_worse_than_its_commonest_class_is_told_with_the_order_that_fits() -> None:
    data = dataset(["0", "1"] * 20)
    labels = np.arange(40) % 2.0
    turned = np.eye(2, dtype=np.float32)[1 - labels.astype(int)]
    told = doubt(data, labels, turned)
    assert told is not None
    assert "right on 0.0%" in told
    assert "[1, 0] it would be right on 100.0%" in told
    assert doubt(data, labels, turned[:, ::-1]) is None


TABLE = [("one, two", "0"), ('say "hi"', "1"), ("two\nlines \u2028 end", "0")]


def written_as(path: Path, separator: str, encoding: str) -> None:
    table = pandas.DataFrame(TABLE, columns=["review", "stars"])
    table.to_csv(path, index=False, sep=separator, encoding=encoding)


@pytest.mark.parametrize(
    ("name", "separator", "encoding", "options"),
    [
        ("x.csv", ",", "utf-8", {}),
        ("x.CSV", ",", "utf-8-sig", {}),
        ("x.csv.gz", ",", "utf-8", {}),
        ("x.tsv", "\t", "utf-8", {}),
        ("x.csv", ";", "utf-8", {"delimiter": ";"}),
        ("x.csv", ",", "utf-16", {}),
    ],
)
def test_tables_are_read_as_pandas_wrote_them(
    name: str, separator: str, encoding: str, options: dict[str, str], tmp_path: Path
) -> None:
    written_as(tmp_path / name, separator, encoding)
    assert read_table(tmp_path / name, ("review", "stars"), **options) == TABLE


def test_an_encoding_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("review,stars\ncafé,1\n".encode("latin-1"))
    with pytest.raises(DataError, match="encoding: latin-1"):
        read_table(path, ("review",))
    assert read_table(path, ("review",), encoding="latin-1") == [("café",)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.json", '[{"review": "fine", "stars": 1}]'),
        ("x.jsonl", '\ufeff{"review": "fine", "stars": 1}\n'),
        ("x.ndjson", '{"review": "fine", "stars": 1}\n'),
        ("x.json", '{"review": "fine", "stars": 1}\n{"review": "fine", "stars": 1}'),
        ("x.csv", " review , stars\nfine, 1\n"),
        ("x.tsv", 'review\tstars\nfine\t1\n5" screen\t1\n'),
    ],
)
def test_what_can_be_read_safely_is_read(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_table(tmp_path / name, ("review", "stars"))[0] == ("fine", "1")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "review,stars\nfine, really,1\n", "line 2: found 3 cells"),
        ("x.tsv", "review\tstars\nfine\tindeed\t1\n", "line 2: found 3 cells"),
        ("x.csv", "review;stars\nfine;1\n", "set delimiter"),
        ("x.csv", "stars,review,stars\n1,fine,2\n", "2 columns 'stars'"),
        ("x.jsonl", '{"review": ["fine"], "stars": 1}\n', "found list"),
        ("x.jsonl", '{"review": null, "stars": 1}\n', "the value is missing"),
        ("x.jsonl", "fine\n", "line 1: not JSON"),
        ("x.xlsx", "", "must be of csv"),
    ],
)
def test_what_could_be_misread_is_refused(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / name, ("review", "stars"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("text,label\na\0b,1\n", "line 2: "),
        ('text;label\n"a; ""b""";1\n', "cells are parted by ';'; set delimiter"),
        ("text,label\nonly\n", "fill the row up"),
        ("text,label\na,b,1\n", "put quotes around"),
    ],
)
def test_a_file_that_is_no_table_says_what_it_is(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "data.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "data.csv", ("text", "label"))


def test_a_column_that_mixes_names_and_numbers_is_called_that() -> None:
    with pytest.raises(DataError, match="mixes names and numbers"):
        encode_labels(dataset(["neg", "1"]), {"neg": 0, "pos": 1})


def test_bytes_in_a_column_are_refused(tmp_path: Path) -> None:
    pandas.DataFrame({"review": [b"fine"], "stars": [1]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="found bytes"):
        read_table(tmp_path / "x.parquet", ("review", "stars"))


def test_texts_are_parted_by_line_feeds_alone(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("one \u2028 text\r\nanother \x0c one\n", encoding="utf-8")
    assert read_lines(tmp_path / "x.txt") == ["one \u2028 text", "another \x0c one", ""]


def test_qqps_broken_lines_are_skipped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "QQP").mkdir()
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    rows = "1\t1\t2\ta\tb\t1\n2\t1\tbroken\n3\t1\t2\tc\td\t0\n"
    (tmp_path / "QQP" / "train.tsv").write_text(header + rows)
    assert len(found("qqp").load("train", tmp_path)) == 2
    assert "1 lines with too few columns were skipped" in caplog.text


def test_a_regression_of_too_few_rows_is_refused_before_any_training(tmp_path: Path) -> None:
    (tmp_path / "validation.csv").write_text("review,stars\nfine,1.5\n")
    task = replace(own(tmp_path, ".csv"), regression=True)
    with pytest.raises(DataError, match="a correlation takes 3 or more"):
        task.load("validation")
