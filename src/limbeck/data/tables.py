"""Tables: csv and parquet. No row or field is skipped.

A row with more or fewer fields than the header is an error: an unquoted comma within a text would
otherwise silently remove a part of the text.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, first_line
from .lines import LONGEST_LINE, read_texts
from .remote import is_remote, open_remote
from .tab_rows import SHOWN, in_quotes, tab_rows

if TYPE_CHECKING:
    import pyarrow
    from datasets import Features

Rows = Iterator[tuple[dict[str, Any], str]]
_ROWS_AT_ONCE = 1000
# How the messages of the csv module begin -> what they mean in a file of texts. The module has one
# error class for all problems, so only the text distinguishes them; where it is not known, the
# original message is shown. tests/data/test_tables.py fails when a message changes.
_CSV_PROBLEMS = {
    "unexpected end of data": 'begins a text with a quote (") that is never closed; close it, or'
    ' double a quote that belongs to the text ("")',
    "',' expected": 'has more text after the quote (") that closes a field, so an earlier quote was'
    ' not closed or this one belongs to the text; double it there ("")',
    "field larger": f"holds a field of more than {LONGEST_LINE:,} characters, perhaps because a"
    ' quote (") is never closed; close it, or break the text into documents',
    "new-line character": "holds a carriage return outside quotes; end lines with \\n or"
    " \\r\\n, and put a text with line ends of its own in quotes",
}


@dataclass(frozen=True)
class Table:
    """A table whose columns are known before its rows are read.

    Attributes:
        name: File or hub name, for messages.
        columns: Their names; empty where a file is.
        read: The rows with the named columns alone, each with its place for messages.
        class_names: Of columns of class labels, the name of each integer.
    """

    name: str
    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Rows]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def csv_table(file: Path | str, *, delimiter: str = ",") -> Table:
    """A csv file with a header; blank rows are ignored.

    Raises:
        DataError: Already here, or once its rows are read: a column that is read is missing or
            occurs twice; a row has more or fewer fields than the header; a quote is not closed; or
            the file is not text.
    """
    header, where = next(_csv_rows(file, delimiter), ([], ""))
    _check_separator(header, delimiter, where)

    def read(columns: Sequence[str]) -> Rows:
        places = {column: _place_of(column, header, where) for column in columns}
        for row, place in islice(_csv_rows(file, delimiter), 1, None):
            yield {column: row[number] for column, number in places.items()}, place

    return Table(str(file), tuple(header), read)


def csv_column(file: Path | str, column: str) -> Iterator[str]:
    """The fields of a column of a csv file with a header; blank rows are ignored.

    Raises:
        DataError: As `csv_table`.
    """
    table = csv_table(file)
    if table.columns:
        for row, _ in table.read([column]):
            yield row[column]


def _check_separator(header: Sequence[str], delimiter: str, where: str) -> None:
    """Refuse a header of one field that holds what other programs separate fields by."""
    other = next((sign for sign in (";", "\t") if len(header) == 1 and sign in header[0]), None)
    if other and other != delimiter:
        named = "semicolons" if other == ";" else "tabs"
        raise DataError(
            f"{where} has one field, {header[0][:60]!r}, and seems to be separated by {named}; save"
            " the table with commas, or with tabs as .tsv"
        )


def _csv_rows(file: Path | str, delimiter: str) -> Iterator[tuple[list[str], str]]:
    """The header, and every row, each with its place."""
    csv.field_size_limit(LONGEST_LINE)  # the default of 131,072 characters is short for texts
    lines: Iterator[str] = (line for _, line in read_texts(file))
    if delimiter == "\t":
        first = next(lines, "")
        lines = chain([first], lines)
        if not all(map(in_quotes, first.rstrip("\r\n").split("\t"))):
            yield from tab_rows(lines, file)
            return
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    number = 0
    while True:
        line = rows.line_num + 1
        where = f"row {number + 1} of {file} (line {line})" if header else f"line {line} of {file}"
        try:
            row = next(rows, None)
        except csv.Error as error:
            about = str(error).replace(f"'{delimiter}'", "','")
            said = next((s for key, s in _CSV_PROBLEMS.items() if about.startswith(key)), None)
            raise DataError(f"{where} {said or f'is not csv: {error}'}") from error
        if row is None:
            return
        if len(row) <= 1 and not "".join(row).strip():
            continue
        if header:
            number += 1
            if len(row) != len(header):
                raise DataError(_ragged(row, header, where))
        header = header or row
        yield row, where


def _ragged(row: Sequence[str], header: Sequence[str], where: str) -> str:
    shown = ", ".join(repr(field[:40]) for field in row[:SHOWN])
    more = ", ..." if len(row) > SHOWN else ""
    counts = f"has {len(row)} field(s) ({shown}{more}), and the header {len(header)}"
    if len(row) < len(header):
        advice = "give the row a value for every column, if only an empty one"
    else:
        advice = 'put a text that holds commas in double quotes ("a, b"), or take the comma away'
    return f"{where} {counts} ({', '.join(header[:SHOWN])}); {advice}"


def parquet_table(file: Path) -> Table:
    """A parquet file; class labels that `datasets` has written keep their names.

    Raises:
        DataError: Already here, or once its rows are read: a column that is read is missing or
            occurs twice, or the file cannot be read.
    """
    schema = _parquet_schema(file)
    names: Mapping[str, tuple[str, ...]] = {}
    if b"huggingface" in (schema.metadata or {}):
        from datasets import Features

        try:
            names = class_names(Features.from_arrow_schema(schema))
        except (KeyError, TypeError, ValueError) as error:
            raise _broken(file, 0, error) from error
    return Table(
        str(file), tuple(schema.names), lambda columns: _parquet_rows(file, columns), names
    )


def parquet_column(file: Path | str, column: str) -> Iterator[str]:
    """The values of a column of a parquet file.

    Raises:
        DataError: The column is missing, occurs twice, does not hold strings, or has no value in
            some row; or the file cannot be read.
    """
    import pyarrow as pa

    schema = _parquet_schema(file)
    kind = schema.field(_place_of(column, schema.names, str(file))).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    strings = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not any(is_kind(kind) for is_kind in strings):
        raise DataError(
            f"{file}: the column {column!r} holds {kind}, not strings; columns are"
            f" {', '.join(schema.names)}. Name the one with text as `column`"
        )
    for row, place in _parquet_rows(file, [column]):
        if row[column] is None:
            raise DataError(
                f"{place}: the column {column!r} holds null; give it a text, if only an empty one,"
                " or leave the row out"
            )
        yield row[column]


def _parquet_schema(file: Path | str) -> "pyarrow.Schema":
    import pyarrow as pa
    from pyarrow.parquet import read_schema

    try:
        with _opened(file) as opened:
            return read_schema(opened)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _broken(file, 0, error) from error


def _parquet_rows(file: Path | str, columns: Sequence[str]) -> Rows:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with _opened(file) as opened, ParquetFile(opened) as table:
            for column in columns:
                _place_of(column, table.schema_arrow.names, str(file))
            for batch in table.iter_batches(_ROWS_AT_ONCE, columns=list(columns)):
                for row in batch.to_pylist():
                    number += 1
                    yield row, f"row {number} of {file}"
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _broken(file, number, error) from error


def _opened(file: Path | str) -> AbstractContextManager[Any]:
    """What pyarrow reads a file from: the path of a local one, which it maps."""
    return open_remote(str(file)) if is_remote(str(file)) else nullcontext(file)


def _broken(file: Path | str, number: int, error: Exception) -> DataError:
    return DataError(
        f"{file} cannot be read after row {number}: {first_line(error)}; give a readable file"
    )


def class_names(features: "Features | Mapping[str, Any]") -> dict[str, tuple[str, ...]]:
    """The names of the integers in every column of class labels, or of lists of them."""
    import datasets

    found = {}
    for column, feature in features.items():
        lists = isinstance(feature, (datasets.List, datasets.LargeList))
        label = feature.feature if lists else feature
        if isinstance(label, datasets.ClassLabel) and label.names:
            found[column] = tuple(label.names)
    return found


def _place_of(column: str, names: Sequence[str], where: str) -> int:
    """The index of a column.

    Raises:
        DataError: The column is missing or occurs twice.
    """
    if names.count(column) == 1:
        return names.index(column)
    known = f"columns are {', '.join(names)}"
    if column in names:
        raise DataError(
            f"{where}: the column {column!r} is there {names.count(column)} times; {known}. Give"
            " each a name of its own"
        )
    raise DataError(
        f"{where}: the column {column!r} is not there; {known}. Name the one with text as"
        " `column`; where these are no names, put a first row of names above them"
    )
