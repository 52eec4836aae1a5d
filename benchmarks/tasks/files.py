"""The user's own data: CSV, TSV, JSONL or Parquet files by column names, or bare text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.tasks.dataset import Dataset, Split
from benchmarks.tasks.tables import read_lines, read_table
from compress.errors import DataError

__all__ = ["FileTask", "TextTask"]


_LEAST_SCORES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class FileTask:
    """A task of the user's own.

    Attributes:
        train, validation: Files.
        text: Columns of the one sentence or the pair.
        label: The label column.
        regression: Labels are numbers to predict.
        encoding: Of text files; by default UTF-8.
        delimiter: Of CSV and TSV files; by default comma or tab.
        name: For the report.
    """

    train: Path
    validation: Path
    text: tuple[str, ...]
    label: str
    regression: bool = False
    encoding: str | None = None
    delimiter: str | None = None
    name: str = "own data"

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is reported: accuracy, or Spearman's and Pearson's correlations."""
        return ("spearman", "pearson") if self.regression else ("accuracy",)

    def load(self, split: Split, _: Path | None = None) -> Dataset:
        """Read a split.

        Raises:
            DataError: The file or a column is missing, or the split is empty.
        """
        path = self.train if split == "train" else self.validation
        columns = (*self.text, self.label)
        rows = read_table(path, columns, encoding=self.encoding, delimiter=self.delimiter)
        if not rows:
            raise DataError(f"task.{split} must not be empty, found no row in {path}")
        if self.regression and split == "validation" and len(rows) < _LEAST_SCORES:
            raise DataError(
                f"{path} has {len(rows)} row(s), and a correlation takes {_LEAST_SCORES} or more; "
                "name a larger validation file"
            )
        return Dataset(
            name=self.name,
            split=split,
            texts=tuple(row[:-1] for row in rows),
            labels=tuple(row[-1] for row in rows),
            regression=self.regression,
            file=str(path),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTask:
    """Texts without labels, to calibrate a model of any head on.

    Attributes:
        texts: A text file, one example a line; a tab parts the two texts of a pair.
        name: For messages.
    """

    texts: Path
    name: str = "texts"

    @property
    def metrics(self) -> tuple[str, ...]:
        """None: nothing can be measured without labels."""
        return ()

    def load(self, split: Split, _: Path | None = None) -> Dataset:
        """Read the texts, empty lines left out.

        Raises:
            DataError: The file is missing, empty or no text, lines differ in the number of texts,
                or something other than `train` is asked for.
        """
        if split != "train":
            raise DataError(
                "task.texts holds no labels to measure accuracy on; name a task, or use "
                "`compress-export prune --texts` and `export` alone"
            )
        if not self.texts.is_file():
            raise DataError(
                f"task.texts must be a text file, found none at {self.texts}; correct it"
            )
        lines = read_lines(self.texts)
        texts = tuple(tuple(line.split("\t")) for line in lines if line.strip())
        counts = {len(text) for text in texts}
        if len(counts) != 1 or max(counts) > 2:
            raise DataError(
                f"task.texts must hold one text a line, or two with a tab between them, found "
                f"{sorted(counts) or 'no line'} in {self.texts}; correct it"
            )
        return Dataset(name=self.name, split=split, texts=texts, labels=(), file=str(self.texts))
