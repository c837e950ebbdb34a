"""Files of JSON objects, one a line or in one array; every problem is reported with its place."""

import json
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from ..errors import DataError
from .lines import OLD_ENDS, read_lines

ENDINGS = (".jsonl", ".jsonl.gz")
_Value = TypeVar("_Value")
_MOST_BYTES = 1 << 32  # of an array, which is read whole and may be one line


def read_rows(file: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Every row of a file, with its place for error messages.

    Raises:
        DataError: The file is empty or cannot be read, or a line is not a JSON object.
    """
    rows = 0
    for number, line in read_lines(file):
        if line.strip():
            rows += 1
            place = f"line {number} of {file}"
            yield whole_letters(row_of(line, place), place), place
    if not rows:
        raise DataError(f"{file} is empty; give one JSON object a line")


def read_array(file: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Every object of a file that is one JSON array; a file that begins otherwise has JSON lines.

    Raises:
        DataError: The file is empty or cannot be read, or the array holds anything but objects.
    """
    first = next((line for _, line in read_lines(file, longest=_MOST_BYTES) if line.strip()), "")
    if not first.lstrip().startswith("["):
        yield from read_rows(file)
        return
    text = "".join(line for _, line in read_lines(file, longest=_MOST_BYTES))
    rows = _parsed(text, str(file), "give one array of objects, or one object a line")
    if not rows:
        raise DataError(f"{file} is an empty array; give it objects")
    for number, row in enumerate(rows, 1):
        place = f"object {number} of {file}"
        yield whole_letters(_object(row, place), place), place


def file_of_split(place: Path, split: str) -> Path:
    """The file of a split, e.g. DIR/sst2.train.jsonl.gz for DIR/sst2 and train.

    Raises:
        DataError: There is none; the message lists the files beside it.
    """
    if not place.name:
        raise DataError(f"{place} names no file; give DIR/NAME, as data/sst2")
    tried = [place.with_name(f"{place.name}.{split}{ending}") for ending in ENDINGS]
    found = [file for file in tried if file.is_file()]
    if len(found) > 1:
        raise DataError(
            f"{found[0]} and {found[1].name} are both there; remove the one that is not read"
        )
    if found:
        return found[0]
    beside = {p.name.split(".jsonl")[0].rpartition(".")[0] for p in place.parent.glob("*.jsonl*")}
    hint = names_beside(place, beside - {""})
    files = {p.name[len(place.name) + 1 :] for p in place.parent.glob(f"{place.name}.*.jsonl*")}
    if splits := sorted({name.split(".jsonl")[0] for name in files}):
        hint = f"; splits of {place.name} that are there: {', '.join(splits)}"
    raise DataError(f"neither {tried[0]} nor {tried[1].name} is there{hint}")


def names_beside(place: Path, names: Iterable[str]) -> str:
    """The end of an error message: of the names in a folder the nearest to that of a place."""
    known = sorted(names)
    if near := get_close_matches(place.name, known, n=1):
        return f"; did you mean {place.with_name(near[0])}?"
    return f"; tasks in {place.parent}: {', '.join(known)}" if known else ""


def task_places(location: str) -> tuple[Path, Path]:
    """Folder and common name of the files that are learned from, and of those that are scored.

    >>> [place.as_posix() for place in task_places("data/sib200_en>sib200_ru")]
    ['data/sib200_en', 'data/sib200_ru']
    >>> [place.as_posix() for place in task_places("data/english>more/russian")]
    ['data/english', 'more/russian']

    Args:
        location: ``DIR/NAME``, ``DIR/LEARNED>SCORED`` of one folder, or two with a folder each.

    Raises:
        DataError: There is a ``>`` without two tasks beside it.
    """
    learned, two, scored = (part.strip() for part in location.partition(">"))
    source = Path(learned)
    if not two:
        return source, source
    other = Path(scored)
    if source.name and other.name:
        place = other if len(other.parts) > 1 else source.with_name(other.name)
        if place != source:
            return source, place
    raise DataError(f"{location!r} names one task; give two as DIR/LEARNED>SCORED")


def has_split(place: Path, split: str) -> bool:
    """Whether the split has a file."""
    return bool(place.name) and any(
        place.with_name(f"{place.name}.{split}{end}").is_file() for end in ENDINGS
    )


def row_of(line: str, place: str) -> dict[str, Any]:
    """A line as a JSON object.

    Args:
        line: A line that is not blank.
        place: The place of the line, for error messages.

    Raises:
        DataError: It is not a JSON object, or has a key twice, where the first value would be lost.
    """
    return _object(_parsed(line, place, "give one object a line"), place)


def _parsed(text: str, place: str, needed: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_keys_once)
    except _KeyTwiceError as error:
        raise DataError(f"{place}: the key {error} is there twice; give each key once") from error
    except (ValueError, RecursionError) as error:
        others = f"; {OLD_ENDS}" if "\r" in text.strip() else ""
        raise DataError(f"{place} is not JSON: {error}; {needed}{others}") from error


def _object(row: Any, place: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{place} is a {type(row).__name__}, not an object")
    return row


def whole_letters(found: _Value, place: str) -> _Value:
    """A value of JSON, which can escape half of a surrogate pair, which no tokenizer accepts.

    Raises:
        DataError: It holds such a half.
    """
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        message = f"{place} holds half a character; write whole Unicode text"
        raise DataError(message) from error
    return found


class _KeyTwiceError(Exception):
    """A JSON object has a key twice."""


def _keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _KeyTwiceError(repr(next(name for name in names if names.count(name) > 1)))
    return found
