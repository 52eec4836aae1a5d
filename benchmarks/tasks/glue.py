"""The nine GLUE tasks: columns, labels, metrics, and how their official TSV files are read.

The files are as they are: MRPC begins with a byte-order mark, CoLA has no header, and quotes are
text, not quoting.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tasks.dataset import Dataset, Split
from compress.errors import DataError

_LOG = logging.getLogger(__name__)

__all__ = ["GLUE", "GlueTask", "glue_task", "read_tsv"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GlueTask:
    """One GLUE task.

    Attributes:
        name: As the Hub's `nyu-mll/glue` spells it.
        folder: The folder of its TSV files.
        text: Columns of its one sentence or its pair.
        label: Its label column.
        labels: Label names in the order of their ids; empty for a regression.
        metrics: The official ones, the one that is reported first first.
        header: Columns of a file that has no header line.
        validation: The dev file, and the Hub's split of it.
        broken: Lines of the official training file that have too few columns, and are skipped.
        hub_text: The Hub's names of the text columns.
    """

    name: str
    folder: str
    text: tuple[str, ...]
    label: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    hub_text: tuple[str, ...]
    header: tuple[str, ...] = ()
    validation: tuple[str, str] = ("dev.tsv", "validation")
    broken: int = 0

    @property
    def regression(self) -> bool:
        """Whether labels are numbers."""
        return not self.labels

    def load(self, split: Split, data: Path | None) -> Dataset:
        """Read a split from TSV files under `data`, or from the Hub where `data` is None.

        Raises:
            DataError: The file or a column is missing, or the split is empty.
        """
        return self._from_hub(split) if data is None else self._from_tsv(split, data)

    def _from_tsv(self, split: Split, data: Path) -> Dataset:
        folder = data / self.folder
        path = folder / ("train.tsv" if split == "train" else self.validation[0])
        if not path.is_file():
            raise DataError(
                f"data must hold {self.folder}/{path.name} for task {self.name!r}, found none "
                f"in {str(data)!r}; point it at the folder of GLUE's task folders"
            )
        rows = read_tsv(path, (*self.text, self.label), self.header, broken=self.broken)
        return self._dataset(split, [(tuple(row[:-1]), row[-1]) for row in rows], str(path))

    def _from_hub(self, split: Split) -> Dataset:
        from datasets import load_dataset

        name = "train" if split == "train" else self.validation[1]
        try:
            table = load_dataset("nyu-mll/glue", self.name, split=name)
        except (OSError, ValueError) as error:
            raise DataError(
                f"task {self.name!r} could not be read from the Hub ({type(error).__name__}); "
                "set data to a folder with GLUE's TSV files"
            ) from error
        rows = [(tuple(str(row[c]) for c in self.hub_text), str(row["label"])) for row in table]
        return self._dataset(split, rows, "the Hub")

    def _dataset(
        self, split: Split, rows: Sequence[tuple[tuple[str, ...], str]], where: str
    ) -> Dataset:
        if not rows:
            raise DataError(
                f"{split} of task {self.name!r} must not be empty, found no row in {where}"
            )
        return Dataset(
            name=self.name,
            split=split,
            texts=tuple(texts for texts, _ in rows),
            labels=tuple(label for _, label in rows),
            label_names=self.labels,
            regression=self.regression,
        )


_ENTAILMENT = ("entailment", "not_entailment")
_PAIR = ("sentence1", "sentence2")

GLUE: tuple[GlueTask, ...] = (
    GlueTask(
        name="cola",
        folder="CoLA",
        text=("sentence",),
        label="label",
        labels=("unacceptable", "acceptable"),
        metrics=("matthews",),
        header=("source", "label", "star", "sentence"),
        hub_text=("sentence",),
    ),
    GlueTask(
        name="sst2",
        folder="SST-2",
        text=("sentence",),
        label="label",
        labels=("negative", "positive"),
        metrics=("accuracy",),
        hub_text=("sentence",),
    ),
    GlueTask(
        name="mrpc",
        folder="MRPC",
        text=("#1 String", "#2 String"),
        label="Quality",
        labels=("not_equivalent", "equivalent"),
        metrics=("accuracy", "f1"),
        hub_text=_PAIR,
    ),
    GlueTask(
        name="stsb",
        folder="STS-B",
        text=_PAIR,
        label="score",
        labels=(),
        metrics=("spearman", "pearson"),
        hub_text=_PAIR,
    ),
    GlueTask(
        name="qqp",
        folder="QQP",
        text=("question1", "question2"),
        label="is_duplicate",
        labels=("not_duplicate", "duplicate"),
        metrics=("accuracy", "f1"),
        hub_text=("question1", "question2"),
        broken=20,
    ),
    GlueTask(
        name="mnli",
        folder="MNLI",
        text=_PAIR,
        label="gold_label",
        labels=("entailment", "neutral", "contradiction"),
        metrics=("accuracy",),
        hub_text=("premise", "hypothesis"),
        validation=("dev_matched.tsv", "validation_matched"),
    ),
    GlueTask(
        name="qnli",
        folder="QNLI",
        text=("question", "sentence"),
        label="label",
        labels=_ENTAILMENT,
        metrics=("accuracy",),
        hub_text=("question", "sentence"),
    ),
    GlueTask(
        name="rte",
        folder="RTE",
        text=_PAIR,
        label="label",
        labels=_ENTAILMENT,
        metrics=("accuracy",),
        hub_text=_PAIR,
    ),
    GlueTask(
        name="wnli",
        folder="WNLI",
        text=_PAIR,
        label="label",
        labels=("not_entailment", "entailment"),
        metrics=("accuracy",),
        hub_text=_PAIR,
    ),
)


def glue_task(name: str) -> GlueTask | None:
    """The GLUE task called `name`, if there is one.

    Example:
        >>> glue_task("stsb").metrics
        ('spearman', 'pearson')
    """
    return next((task for task in GLUE if task.name == name), None)


def read_tsv(
    path: Path, columns: tuple[str, ...], header: tuple[str, ...] = (), *, broken: int = 0
) -> list[tuple[str, ...]]:
    """The wanted columns of every line of an official file; quotes are text.

    Args:
        path: UTF-8, with or without a byte-order mark.
        columns: Which ones, by name.
        header: Names of the columns where the file has no header line.
        broken: So many lines that are too short may be skipped; they are counted in a log line.

    Raises:
        DataError: The file cannot be read, lacks a column, or a line is too short.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} must be readable UTF-8 text, found: {error}") from error
    names = header or tuple(lines.pop(0).rstrip("\r").split("\t"))
    missing = [column for column in columns if column not in names]
    if missing:
        raise DataError(
            f"{path} must have the column {missing[0]!r}, found {list(names)}; "
            "check that it is the official file"
        )
    positions = [names.index(column) for column in columns]
    rows, skipped = [], 0
    for number, line in enumerate(lines, start=1 if header else 2):
        if not line.strip():
            continue
        cells = line.rstrip("\r").split("\t")
        if len(cells) <= max(positions):
            skipped += 1
            if skipped <= broken:
                continue
            raise DataError(
                f"{path}, line {number}: a line must have {len(names)} columns, "
                f"found {len(cells)}; check that it is the official file"
            )
        rows.append(tuple(cells[i] for i in positions))
    if skipped:
        _LOG.warning("%s: %d lines with too few columns were skipped", path, skipped)
    return rows
