"""The user's own data: CSV, TSV, JSONL or Parquet files by column names, or bare text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tasks.dataset import Dataset, Split
from benchmarks.tasks.glue import read_tsv
from compress.errors import DataError

__all__ = ["FileTask", "TextTask"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FileTask:
    """A task of the user's own.

    Attributes:
        train, validation: Files.
        text: Columns of the one sentence or the pair.
        label: The label column.
        regression: Labels are numbers to predict.
        name: For the report.
    """

    train: Path
    validation: Path
    text: tuple[str, ...]
    label: str
    regression: bool = False
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
        rows = _rows(path, (*self.text, self.label))
        if not rows:
            raise DataError(f"task.{split} must not be empty, found no row in {path}")
        return Dataset(
            name=self.name,
            split=split,
            texts=tuple(row[:-1] for row in rows),
            labels=tuple(row[-1] for row in rows),
            regression=self.regression,
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
        try:
            lines = self.texts.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"task.texts must be readable as UTF-8, found in {self.texts}: {error}; save it so"
            ) from error
        texts = tuple(tuple(line.split("\t")) for line in lines if line.strip())
        counts = {len(text) for text in texts}
        if len(counts) != 1 or max(counts) > 2:
            raise DataError(
                f"task.texts must hold one text a line, or two with a tab between them, found "
                f"{sorted(counts) or 'no line'} in {self.texts}; correct it"
            )
        return Dataset(name=self.name, split=split, texts=texts, labels=())


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    if not path.is_file():
        raise DataError(f"{path} must be a file, found none; check the task's paths")
    if path.suffix == ".tsv":
        return read_tsv(path, columns)
    table = _table(path)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(
            f"{path} must have the column {missing[0]!r}, found {list(table.columns)}; "
            "set task.text and task.label to columns of the file"
        )
    if table[list(columns)].isna().any().any():
        empty = next(c for c in columns if table[c].isna().any())
        raise DataError(f"{path}: column {empty!r} must have no missing value, found some")
    return [tuple(map(str, row)) for row in table[list(columns)].itertuples(index=False)]


def _table(path: Path) -> Any:
    import pandas

    try:
        match path.suffix:
            case ".csv":
                return pandas.read_csv(path, dtype=str, keep_default_na=False)
            case ".jsonl" | ".json":
                return pandas.read_json(path, lines=True, dtype=False)
            case ".parquet":
                return pandas.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} must be a readable {path.suffix[1:]} file, found: "
            f"{' '.join(str(error).split())[:200]}; check header, columns and quoting"
        ) from error
    raise DataError(
        f"{path} must end in .csv, .tsv, .jsonl or .parquet, found {path.suffix!r}; convert it"
    )
