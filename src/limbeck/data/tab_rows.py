"""Rows of files whose fields are separated by tabs, of which most know no quotes."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import DataError

SHOWN = 5  # fields of a row in error messages


def tab_rows(lines: Iterable[str], file: Path | str) -> Iterator[tuple[list[str], str]]:
    """The header, and every row, each with its place, of a file whose fields tabs separate.

    Where the header is not in quotes, one that begins a text belongs to it, as in most such files;
    programs that put quotes around some fields double those inside, by which they are told.

    Raises:
        DataError: A row has more or fewer fields than the header.
    """
    header: list[str] = []
    for number, line in enumerate(lines, 1):
        row = [_unquoted(field) for field in line.rstrip("\r\n").split("\t")]
        where = f"line {number} of {file}"
        where = f"row {number - 1} of {file} (line {number})" if header else where
        if len(row) == 1 and not row[0].strip():
            continue
        if header and len(row) != len(header):
            shown = ", ".join(repr(field[:40]) for field in row[:SHOWN])
            raise DataError(
                f"{where} has {len(row)} field(s) ({shown}), and the header {len(header)}: there a"
                " line is a row, with a tab between fields; save texts that hold tabs or line ends"
                " as csv or jsonl"
            )
        header = header or row
        yield row, where


def in_quotes(field: str) -> bool:
    """Whether a field stands in quotes."""
    return len(field) > 1 and field[0] == field[-1] == '"'


def _unquoted(field: str) -> str:
    """A field as it was before it was quoted; one that was not as it is.

    >>> _unquoted('"so ""good"" it is"'), _unquoted('"so good" it is'), _unquoted('"good"')
    ('so "good" it is', '"so good" it is', '"good"')
    """
    inside = field[1:-1]
    doubled = '"' in inside and '"' not in inside.replace('""', "")
    return inside.replace('""', '"') if in_quotes(field) and doubled else field
