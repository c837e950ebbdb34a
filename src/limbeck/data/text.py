"""Documents from files, here or in object stores, and from datasets on the hub.

Every line of a txt file is a document; of jsonl, csv and parquet files one column is read.
"""

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Field

from ..errors import DataError
from ..system.fingerprints import content_of
from ..system.numbers import Number
from .hub_tables import SAVED_BY_DATASETS, hub_rows
from .json_lines import row_of
from .lines import read_lines, read_texts
from .remote import content_of_remote, is_remote, name_of
from .tables import csv_column, parquet_column

_KNOWN = (".txt", ".jsonl", ".csv", ".parquet")
_FULLY_CHECKED = 1_000_000_000  # bytes on disk up to which a file is checked to its end


@dataclass(frozen=True)
class TextSource:
    """A source of documents.

    Attributes:
        path: A .txt, .jsonl, .csv or .parquet file (all but parquet also .gz), here or in an
            object store (`s3://bucket/file.jsonl.gz`), or the name of a dataset on the hub.
        column: The column that holds the text; txt files have none.
        weight: Share of the sequences, relative to the other sources.
        split: The split of a hub dataset.
        name: The configuration of a hub dataset.
    """

    path: str
    column: str = "text"
    weight: Annotated[Number, Field(gt=0, lt=math.inf)] = 1.0
    split: str = "train"
    name: str | None = None


def check_source(source: TextSource) -> None:
    """Read a source once before anything expensive starts; of a very large one only the beginning.

    Raises:
        DataError: The source is missing or empty, does not hold text, or is a file for which
            something is said that files have not.
    """
    _check_fields(source)
    try:
        content = content_of_text(source.path) if ending_of(source.path) else ""
    except OSError as error:
        raise DataError(f"{source.path} cannot be read: {error.strerror or error}") from error
    if not _checked_documents(source, content):
        raise DataError(f"{source.path} holds no document; give a file with text in it")


def _check_fields(source: TextSource) -> None:
    """Refuse fields that would not be read.

    Raises:
        DataError: There are some.
    """
    if not (ending := ending_of(source.path)):
        return
    default = TextSource(source.path)
    unread = [name for name in ("split", "name") if getattr(source, name) != getattr(default, name)]
    unread += ["column"] * (ending == ".txt" and source.column != default.column)
    if unread:
        whose = "a txt file has no columns" if unread == ["column"] else "that is for hub datasets"
        said = ", ".join(f"{name}: {getattr(source, name)}" for name in unread)
        raise DataError(
            f"{source.path} is a file, of which `{said}` would not be read ({whose}); leave it out"
        )


# Cached, because every arm of a study checks the same sources.
@lru_cache(maxsize=256)
def _checked_documents(source: TextSource, content: str) -> int:
    """The number of documents that were read; ``content`` is a hash, as a key of the cache."""
    here = bool(content) and not is_remote(source.path)
    fully = here and Path(source.path).stat().st_size < _FULLY_CHECKED
    documents = read_documents(source)
    return sum(1 for _ in (documents if fully else islice(documents, 1000)))


def read_documents(source: TextSource) -> Iterator[str]:
    """Every document of a source in order, without surrounding white space or blank documents.

    Raises:
        DataError: A line or row is not text; the message names it.
    """
    for text in _texts(source):
        if text := text.strip():
            yield text


def read_documents_up_to(source: TextSource, characters: int | None) -> Iterator[str]:
    """Documents from the beginning of a source, until they have so many characters.

    Args:
        source: The source.
        characters: The limit, which the last document may exceed; None reads all documents.
    """
    read = 0
    for document in read_documents(source):
        if characters is not None and read >= characters:
            return
        read += len(document)
        yield document


def _texts(source: TextSource) -> Iterator[str]:
    ending = ending_of(source.path)
    file = source.path if is_remote(source.path) else Path(source.path)
    if ending == ".txt":
        return (line for _, line in read_texts(file))
    if ending == ".jsonl":
        return (_column_of_json(line, number, source) for number, line in read_lines(file))
    if ending == ".csv":
        return csv_column(file, source.column)
    if ending == ".parquet":
        return parquet_column(file, source.column)
    rows = enumerate(hub_rows(source.path, source.split, source.name), start=1)
    return (_column(row, source, f"row {number} of {source.path}") for number, row in rows)


def content_of_text(path: str) -> str:
    """What changes with the content of a text: a hash, what its store says, or its hub name.

    Raises:
        DataError: A remote file cannot be looked up.
    """
    if is_remote(path):
        return content_of_remote(path)
    file = Path(path)
    return content_of(file) if file.exists() else path


def ending_of(path: str) -> str:
    """The known file ending, without .gz; empty for a hub name.

    Raises:
        DataError: A local file does not exist, is a folder, or any has an unknown ending.
    """
    file = name_of(path) if is_remote(path) else Path(path)
    plain = file.with_suffix("") if file.suffix == ".gz" else file
    ending = plain.suffix + (".gz" if plain != file else "")
    known = plain.suffix in _KNOWN and ending != ".parquet.gz"
    exists, is_folder = _looked_up(file)
    if is_folder:
        saved = any((Path(path) / name).is_file() for name in SAVED_BY_DATASETS)
        advice = "name the files in it one by one"
        if saved:
            advice = "`datasets` has saved it, so write it as a file (Dataset.to_parquet)"
        raise DataError(f"{path!r} is a folder; {advice}")
    if exists and not known:
        raise DataError(
            f"{path} ends in {ending or 'nothing'}; known are txt, jsonl, csv (each also .gz)"
            " and parquet"
        )
    if not exists:
        looks_like_file = known or file.suffix == ".gz" or path.count("/") > 1
        if looks_like_file or path.startswith((".", "/", "~")) or not path.strip():
            folder = Path(path).parent
            beside = [p.name for p in folder.glob("*")] if folder.is_dir() else []
            near = difflib.get_close_matches(file.name, beside, n=1)
            hint = f"; did you mean {folder / near[0]}?" if near else ""
            if any(sign in path for sign in "*?["):
                hint = "; patterns are not read, so name the files one by one"
            raise DataError(f"the text file {path} does not exist{hint}")
        return ""
    return plain.suffix


def _looked_up(file: Path | PurePosixPath) -> tuple[bool, bool]:
    """Whether a file is there, and whether it is a folder; a remote one is looked up when read."""
    if not isinstance(file, Path):
        return True, False
    try:
        return file.exists(), file.is_dir()
    except OSError as error:
        raise DataError(
            f"{file!s:.200} cannot be looked up: {error.strerror}; give the path of a readable file"
        ) from error


def _column_of_json(line: str, number: int, source: TextSource) -> str:
    if not line.strip():
        return ""
    place = f"line {number} of {source.path}"
    return _column(row_of(line, place), source, place)


def _column(row: Mapping[str, Any], source: TextSource, place: str) -> str:
    text = row.get(source.column)
    if isinstance(text, str):
        try:
            text.encode()  # JSON can escape half of a surrogate pair, which no tokenizer accepts
        except UnicodeEncodeError as error:
            raise DataError(
                f"{place}: the column {source.column!r} holds half a character"
                f" ({text[error.start]!r} at {error.start}); write it as whole Unicode text"
            ) from error
        return text
    holds = "null" if text is None else type(text).__name__
    what = f"holds {holds}" if source.column in row else "is not there"
    raise DataError(
        f"{place}: the column {source.column!r} {what}; columns are {', '.join(map(str, row))}."
        " Name the one with text as `column`"
    )
