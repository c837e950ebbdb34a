"""One column of a table: csv, parquet, or a dataset on the hub. No row or field is skipped.

A row with more or fewer fields than the header is an error: an unquoted comma within a text would
otherwise silently remove a part of the text.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError, first_line
from .lines import LONGEST_LINE, read_lines

_SHOWN = 5  # fields of a row in error messages
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


def csv_column(file: Path, column: str) -> Iterator[str]:
    """The fields of a column of a csv file with a header; blank rows are ignored.

    Raises:
        DataError: The column is missing or occurs twice; a row has more or fewer fields than the
            header; a quote is not closed; or the file is not text.
    """
    csv.field_size_limit(LONGEST_LINE)  # the default of 131,072 characters is short for texts
    rows = csv.reader((line for _, line in read_lines(file)), strict=True)
    header: list[str] = []
    place, number = -1, 0
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            said = next((s for key, s in _CSV_PROBLEMS.items() if str(error).startswith(key)), None)
            where = f"row {number + 1} of {file} (line {line})" if header else f"line 1 of {file}"
            raise DataError(f"{where} {said or f'is not csv: {error}'}") from error
        if row is None:
            return
        if len(row) <= 1 and not "".join(row).strip():
            continue
        if not header:
            header, place = row, _place_of(column, row, f"line {line} of {file}")
            continue
        number += 1
        if len(row) != len(header):
            raise DataError(_ragged(row, header, f"row {number} of {file} (line {line})"))
        yield row[place]


def _ragged(row: Sequence[str], header: Sequence[str], where: str) -> str:
    shown = ", ".join(repr(field[:40]) for field in row[:_SHOWN])
    more = ", ..." if len(row) > _SHOWN else ""
    counts = f"has {len(row)} field(s) ({shown}{more}), and the header {len(header)}"
    if len(row) < len(header):
        advice = "give the row a value for every column, if only an empty one"
    else:
        advice = 'put a text that holds commas in double quotes ("a, b"), or take the comma away'
    return f"{where} {counts} ({', '.join(header[:_SHOWN])}); {advice}"


def parquet_column(file: Path, column: str) -> Iterator[str]:
    """The values of a column of a parquet file.

    Raises:
        DataError: The column is missing, occurs twice, does not hold strings, or has no value in
            some row; or the file cannot be read.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(file) as table:
            schema = table.schema_arrow
            kind = schema.field(_place_of(column, schema.names, str(file))).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            strings = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
            if not any(is_kind(kind) for is_kind in strings):
                raise DataError(
                    f"{file}: the column {column!r} holds {kind}, not strings; columns are"
                    f" {', '.join(schema.names)}. Name the one with text as `column`"
                )
            for batch in table.iter_batches(_ROWS_AT_ONCE, columns=[column]):
                for text in batch.column(column).to_pylist():
                    number += 1
                    if text is None:
                        raise DataError(
                            f"row {number} of {file}: the column {column!r} holds null; give it a"
                            " text, if only an empty one, or leave the row out"
                        )
                    yield text
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file} cannot be read after row {number}: {first_line(error)}; give a readable file"
        ) from error


def hub_rows(name: str, split: str) -> Iterator[Mapping[str, Any]]:
    """The rows of a dataset on the hub, streamed.

    Raises:
        DataError: It cannot be reached or read.
    """
    import datasets

    number = 0
    try:
        for row in datasets.load_dataset(name, split=split, streaming=True):
            number += 1
            yield row
    except Exception as error:  # `datasets` passes on the errors of many readers
        where = f" after row {number}" if number else ""
        raise DataError(
            f"{name} cannot be read{where}: {first_line(error)}; give a local file if the hub"
            " cannot be reached"
        ) from error


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
