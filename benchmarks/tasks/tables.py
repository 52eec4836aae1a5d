"""Rows of a user's table by column names: CSV, TSV, JSON, JSON lines or Parquet, packed or not.

What can be read safely is read; what could be read in two ways is refused with what was found.
Knows file formats; must not know what the columns mean.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from compress.errors import DataError

__all__ = ["read_lines", "read_table"]

Row: TypeAlias = tuple[str, ...]

_PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LINES = (".jsonl", ".ndjson")
_KINDS = "csv, tsv, jsonl, json or parquet, each of the first four also as .gz, .bz2 or .xz"
_REMEDIES = {
    True: "put quotes around a text that holds the delimiter",
    False: "fill the row up, or correct what cuts it short",
}
_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_table(
    path: Path, columns: Sequence[str], *, encoding: str | None = None, delimiter: str | None = None
) -> list[Row]:
    """The wanted columns of every row, as text.

    Args:
        path: The file; its ending says the format.
        columns: Which ones, by name.
        encoding: Of a text file; by default UTF-8, or UTF-16 where a byte-order mark says so.
        delimiter: Between the cells of a CSV or TSV file; by default comma or tab.

    Raises:
        DataError: The file cannot be read, or not in one way alone; the message says the line.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing there"
        raise DataError(f"{path} must be a file, found {found}; check the task's paths")
    packed = path.suffix.lower() if path.suffix.lower() in _PACKED else ""
    kind = Path(path.name.removesuffix(path.suffix)).suffix if packed else path.suffix
    kind = kind.lower()
    if kind == ".parquet" and not packed:
        return _of_records(path, columns, _parquet(path, columns))
    if kind not in (*_DELIMITERS, *_LINES, ".json"):
        raise DataError(f"{path} must be of {_KINDS}, found {path.name!r}; convert it")
    text = _text(path, packed, encoding)
    if not text.strip():
        raise DataError(f"{path} is empty; write a header and rows into it")
    if kind in _DELIMITERS:
        return _delimited(path, columns, text, delimiter or _DELIMITERS[kind], kind)
    return _of_records(path, columns, _json(path, text, lines=kind in _LINES))


def read_lines(path: Path, encoding: str | None = None) -> list[str]:
    """Lines of a text file, parted by line feeds alone: other breaks are part of a text."""
    text = _text(path, "", encoding)
    return [line.removesuffix("\r") for line in text.split("\n")]


def _text(path: Path, packed: str, encoding: str | None) -> str:
    try:
        data = path.read_bytes()
        data = _PACKED[packed](data) if packed else data
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; write it again") from error
    used = encoding or ("utf-16" if data.startswith(_MARKS) else "utf-8-sig")
    try:
        text = data.decode(used).removeprefix("\ufeff")
    except (UnicodeDecodeError, LookupError) as error:
        raise DataError(
            f"{path} is not {used.removesuffix('-sig')} text ({error}); save it as UTF-8, or name "
            "its encoding (encoding: latin-1, say)"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(
            f"{path}, line {line}: found a NUL character, which no text holds; remove it"
        )
    return text


def _delimited(
    path: Path, columns: Sequence[str], text: str, delimiter: str, kind: str
) -> list[Row]:
    _check_delimiter(path, columns, text, delimiter)
    rows = _quoted_rows(path, text, delimiter, strict_quotes=kind == ".csv")
    header = [name.strip() for name in next(rows, (0, []))[1]]
    _check_columns(path, columns, header, delimiter)
    positions = [header.index(column) for column in columns]
    found = []
    for line, cells in rows:
        if not cells or (len(cells) == 1 and not cells[0].strip()):
            continue
        if len(cells) != len(header):
            raise DataError(
                f"{path}, line {line}: found {len(cells)} cells where the header names "
                f"{len(header)}; {_REMEDIES[len(cells) > len(header)]}"
            )
        found.append(tuple(cells[i] for i in positions))
    return found


def _check_delimiter(path: Path, columns: Sequence[str], text: str, delimiter: str) -> None:
    """Refuse a header that another delimiter splits into all wanted columns, and this one not."""
    first = text.lstrip("\n").partition("\n")[0]
    if delimiter in first:
        return
    for other in (d for d in ";\t,|" if d in first):
        names = [name.strip().strip('"') for name in first.split(other)]
        if all(column in names for column in columns):
            raise DataError(f"{path}: cells are parted by {other!r}; set delimiter to it")


def _quoted_rows(
    path: Path, text: str, delimiter: str, *, strict_quotes: bool
) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells. A TSV whose quotes do not pair is read as plain cells."""
    csv.field_size_limit(sys.maxsize)
    source = io.StringIO(text, newline="")
    reader = csv.reader(
        source, delimiter=delimiter, strict=True, skipinitialspace=delimiter != "\t"
    )
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        if strict_quotes:
            raise DataError(
                f"{path}, line {reader.line_num}: {error}; double the quotes inside a quoted text"
            ) from error
        lines = text.split("\n")
        rows = [(i, line.removesuffix("\r").split(delimiter)) for i, line in enumerate(lines, 1)]
    for line, row in () if strict_quotes else rows:
        if any(delimiter in cell and "\n" in cell for cell in row):
            raise DataError(
                f"{path}, line {line}: a quoted cell holds a tab and a line break, or two quotes "
                "that are text happen to pair; write the table as CSV"
            )
    return iter(rows)


def _check_columns(
    path: Path, columns: Sequence[str], header: Sequence[str], delimiter: str
) -> None:
    for column in columns:
        if header.count(column) > 1:
            raise DataError(f"{path} has {header.count(column)} columns {column!r}; rename one")
        if column not in header:
            other = next((d for d in ";\t,|" if d != delimiter and d in "".join(header)), None)
            hint = f"; its cells may be parted by {other!r}: set delimiter" if other else ""
            raise DataError(
                f"{path} has no column {column!r}, found {list(header)}; set task.text and "
                f"task.label to columns of the file{hint}"
            )


def _json(path: Path, text: str, *, lines: bool) -> list[Any]:
    if text.lstrip().startswith("[") or not lines:
        try:
            whole = json.loads(text)
        except ValueError as error:
            if "\n{" in text.strip():  # objects line by line, whatever the ending says
                return _json_lines(path, text)
            raise DataError(f"{path} is not JSON: {error}; write it again") from error
        return whole if isinstance(whole, list) else [whole]
    return _json_lines(path, text)


def _json_lines(path: Path, text: str) -> list[Any]:
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not JSON: {error}; correct it") from error
    return found


def _parquet(path: Path, columns: Sequence[str]) -> list[Any]:
    import pyarrow
    from pyarrow import parquet

    try:
        names = parquet.read_schema(path).names
        _check_columns(path, columns, names, "")
        found: list[Any] = parquet.read_table(path, columns=list(columns)).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} is not Parquet: {str(error)[:200]}; write it again") from error
    return found


def _of_records(path: Path, columns: Sequence[str], records: Sequence[Any]) -> list[Row]:
    rows = []
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise DataError(
                f"{path}, example {number}: found {record!r:.60}, no object; correct it"
            )
        missing = next((column for column in columns if column not in record), None)
        if missing is not None:
            raise DataError(
                f"{path}, example {number}: no column {missing!r}, found {sorted(record)}; set "
                "task.text and task.label to columns of the file"
            )
        rows.append(tuple(_cell(path, number, column, record[column]) for column in columns))
    return rows


def _cell(path: Path, number: int, column: str, value: Any) -> str:
    """A value as text, where it has one way to be written."""
    where = f"{path}, example {number}, column {column!r}"
    if value is None or value != value:  # NaN is no number equal to itself
        raise DataError(f"{where}: the value is missing; fill it in, or leave the row out")
    if isinstance(value, bytes | list | dict | tuple):
        raise DataError(
            f"{where}: found {type(value).__name__} {value!r:.40}, which is no text; write one "
            "text or one label in each cell"
        )
    return str(value)
