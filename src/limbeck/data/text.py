"""Files and hub names become documents.

A line of a txt file is a document; jsonl, csv and parquet give a column. Plain
lines are read here, so that a fault can be told with its line; tables and hub
names are read by `datasets`.
"""

import difflib
import glob
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import datasets
from pydantic import Field

from ..errors import DataError

_LINES = (".txt", ".jsonl")
_TABLES = (".csv", ".parquet")
_LONGEST_LINE = 10_000_000  # bytes; longer ones are rarely text and would stall a tokenizer
_WHOLLY_CHECKED = 1_000_000_000  # bytes on disk


@dataclass(frozen=True)
class TextSource:
    """Where documents come from.

    Attributes:
        path: A .txt, .jsonl, .csv or .parquet file (all but parquet also .gz),
            or the name of a hub dataset.
        column: Which column holds the text; txt files have none.
        weight: Share of the sequences, relative to the other sources.
        split: Of a hub dataset.
    """

    path: str
    column: str = "text"
    weight: Annotated[float, Field(gt=0, lt=math.inf)] = 1.0
    split: str = "train"


def check_source(source: TextSource) -> None:
    """Read a source before anything heavy depends on it; of a very large one only the start.

    Raises:
        DataError: It is missing, empty, or not the text that it should be.
    """
    lines = _ending(source.path) in _LINES
    wholly = lines and Path(source.path).stat().st_size < _WHOLLY_CHECKED
    documents = read_documents(source)
    count = sum(1 for _ in (documents if wholly else islice(documents, 1000)))
    if not count:
        raise DataError(f"{source.path} holds no document; give a file with text in it")


def read_documents(source: TextSource) -> Iterator[str]:
    """Every document of a source in order, stripped; blank ones are left out.

    Raises:
        DataError: With the line or document at which the source stops being text.
    """
    ending = _ending(source.path)
    if ending in _LINES:
        for number, line in _lines(Path(source.path)):
            text = line if ending == ".txt" else _column_of_json(line, number, source)
            if text := text.strip():
                yield text
        return
    for text in _table(source, ending):
        if text := text.strip():
            yield text


def _ending(path: str) -> str:
    """The known ending, without .gz; empty for a hub name.

    Raises:
        DataError: The file is not there, is a folder, or has an unknown ending.
    """
    file = Path(path)
    plain = file.with_suffix("") if file.suffix == ".gz" else file
    ending = plain.suffix + (".gz" if plain != file else "")
    known = plain.suffix in (*_LINES, *_TABLES) and ending != ".parquet.gz"
    try:
        exists, is_folder = file.exists(), file.is_dir()
    except OSError as error:
        raise DataError(
            f"{path:.200} cannot be looked up: {error.strerror}; give the path of a readable file"
        ) from error
    if is_folder:
        raise DataError(f"{path!r} is a folder; name the files in it one by one")
    if exists and not known:
        raise DataError(
            f"{path} ends in {ending or 'nothing'}; known are txt, jsonl, csv (each also .gz)"
            " and parquet"
        )
    if not exists:
        looks_like_file = known or file.suffix == ".gz" or path.count("/") > 1
        if looks_like_file or path.startswith((".", "/", "~")) or not path.strip():
            beside = [p.name for p in file.parent.glob("*")] if file.parent.is_dir() else []
            near = difflib.get_close_matches(file.name, beside, n=1)
            hint = f"; did you mean {file.parent / near[0]}?" if near else ""
            raise DataError(f"the text file {path} does not exist{hint}")
        return ""
    return plain.suffix


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        with _opened(file) as stream:
            while line := stream.readline(_LONGEST_LINE + 1):
                number += 1
                if len(line) > _LONGEST_LINE:
                    raise DataError(
                        f"line {number} of {file} is longer than {_LONGEST_LINE} bytes; break it"
                        " into documents, one a line"
                    )
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                yield number, line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"line {number} of {file} is not UTF-8 (byte {error.object[error.start]:#04x} at"
            f" {error.start} of the line); convert the file: iconv -f OLD_ENCODING -t UTF-8"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        with file.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
        if not compressed:
            raise DataError(
                f"{file} ends in .gz but is no gzip file ({error}); rename it or compress it"
            ) from error
        raise DataError(
            f"{file} is cut short or broken after line {number} ({error}); fetch it again"
        ) from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


def _opened(file: Path) -> io.BufferedReader:
    if file.suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(file, "rb"), buffer_size=1 << 20)
    return file.open("rb")


def _column_of_json(line: str, number: int, source: TextSource) -> str:
    if not line.strip():
        return ""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"line {number} of {source.path} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"line {number} of {source.path} is a {type(row).__name__}, not an object")
    return _column(row, source, f"line {number} of {source.path}")


def _column(row: dict[str, Any], source: TextSource, place: str) -> str:
    text = row.get(source.column)
    if isinstance(text, str):
        try:
            text.encode()  # JSON may spell half a character, which no tokenizer takes
        except UnicodeEncodeError as error:
            raise DataError(
                f"{place}: the column {source.column!r} holds half a character"
                f" ({text[error.start]!r} at {error.start}); write it as whole Unicode text"
            ) from error
        return text
    what = f"holds {type(text).__name__}" if source.column in row else "is not there"
    raise DataError(
        f"{place}: the column {source.column!r} {what}; columns are {', '.join(map(str, row))}."
        " Name the one with text as `column`"
    )


def _table(source: TextSource, ending: str) -> Iterator[str]:
    number = 0
    try:
        for number, row in enumerate(_rows(source, ending), start=1):
            yield _column(row, source, f"row {number} of {source.path}")
    except DataError:
        raise
    except Exception as error:  # `datasets` raises whatever the reader below it raised
        first = (str(error).splitlines() or [type(error).__name__])[0]
        where = f" after row {number}" if number else ""
        if isinstance(error, UnicodeDecodeError):
            advice = "convert the file: iconv -f OLD_ENCODING -t UTF-8"
        elif ending:
            advice = "give a readable file"
        else:
            advice = "give a local file if the hub is not in reach"
        raise DataError(f"{source.path} cannot be read{where}: {first}; {advice}") from error


def _rows(source: TextSource, ending: str) -> Iterable[dict[str, Any]]:
    rows: Iterable[dict[str, Any]]
    if not ending:
        rows = datasets.load_dataset(source.path, split=source.split, streaming=True)
        return rows
    # Otherwise a blank cell or the word "null" would be no text, and "12" a number.
    verbatim = {"converters": {source.column: str}, "keep_default_na": False}
    rows = datasets.load_dataset(
        ending.removeprefix("."),
        data_files=glob.escape(source.path),
        split="train",
        streaming=True,
        **(verbatim if ending == ".csv" else {}),
    )
    return rows
