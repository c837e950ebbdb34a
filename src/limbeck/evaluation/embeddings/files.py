"""Files of pairs, queries and documents: read, checked, refused with the place of a problem."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.json_lines import file_of_split, has_split, names_beside, read_rows
from ...errors import DataError

_ENDINGS = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts: translations, or with a label how similar they are.

    Attributes:
        name: The files' common name.
        left: The texts in ``text``.
        right: Those in ``text_pair``.
        labels: Numbers; empty where there are none.
    """

    name: str
    left: tuple[str, ...]
    right: tuple[str, ...]
    labels: tuple[float, ...] = ()


@dataclass(frozen=True)
class Retrieval:
    """Queries, and the documents among which theirs are to be found.

    Attributes:
        name: The files' common name.
        queries: Texts.
        corpus: Texts.
        relevant: For every query the numbers of its documents in the corpus.
    """

    name: str
    queries: tuple[str, ...]
    corpus: tuple[str, ...]
    relevant: tuple[frozenset[int], ...]


def read_similarity(location: str, *, split: str | None = None) -> Pairs:
    """Pairs with a number each, as ``DIR/stsb`` for stsb.dev.jsonl.gz.

    Args:
        location: Folder and common name of the files.
        split: ``dev``, ``test`` or another; by default dev, else test.

    Raises:
        DataError: There is no file, a row has no two texts, or a label is no number.
    """
    place = Path(location)
    split = split or ("dev" if has_split(place, "dev") else "test")
    rows = list(_pairs(file_of_split(place, split)))
    labels = [_number(row, at) for row, _, _, at in rows]
    if len(set(labels)) == 1:
        raise DataError(
            f"all {len(labels)} labels of {location} ({split}) are {labels[0]:g}, so pairs cannot"
            " be ranked by them; give pairs of different similarity"
        )
    return Pairs(
        place.name, tuple(row[1] for row in rows), tuple(row[2] for row in rows), tuple(labels)
    )


def read_bitext(location: str) -> Pairs:
    """Sentences and their translations, as ``DIR/ntrex_en_ru`` for ntrex_en_ru.jsonl.gz.

    Raises:
        DataError: There is no file, or a row has no two texts.
    """
    place = Path(location)
    tried = [place, *(place.with_name(f"{place.name}{ending}") for ending in _ENDINGS)]
    file = next((file for file in tried if file.is_file()), None)
    if file is None:
        beside = {file.name.split(".jsonl")[0] for file in place.parent.glob("*.jsonl*")}
        raise DataError(
            f"neither {tried[1]} nor {tried[2].name} is there; give DIR/NAME of a file with"
            f" `text` and `text_pair` in each line{names_beside(place, beside)}"
        )
    rows = list(_pairs(file))
    name = file.name.split(".jsonl")[0]
    return Pairs(name, tuple(row[1] for row in rows), tuple(row[2] for row in rows))


def read_retrieval(location: str) -> Retrieval:
    """Queries and corpus, as ``DIR/xquad_en`` for xquad_en.queries.jsonl and xquad_en.corpus.jsonl.

    Raises:
        DataError: A file is missing or empty, an id occurs twice, or a query names no relevant
            document, one twice, or one that is not in the corpus.
    """
    place = Path(location)
    corpus = dict(_by_id(file_of_split(place, "corpus")))
    number_of = {name: number for number, name in enumerate(corpus)}
    queries, relevant = [], []
    for row, at in _by_id(file_of_split(place, "queries")).values():
        queries.append(_text(row, "text", at))
        relevant.append(_relevant(row, number_of, at))
    texts = [_with_title(row, at) for row, at in corpus.values()]
    return Retrieval(place.name, tuple(queries), tuple(texts), tuple(relevant))


def _pairs(file: Path) -> Iterator[tuple[dict[str, Any], str, str, str]]:
    for row, at in read_rows(file):
        yield row, _text(row, "text", at), _text(row, "text_pair", at), at


def _text(row: dict[str, Any], field: str, at: str) -> str:
    text = row.get(field)
    if not isinstance(text, str) or not text.strip():
        given = f"`{field}` is {text!r:.60}" if field in row else f"there is no `{field}`"
        raise DataError(f"{at}: {given}; give a text that is not empty, or leave the row out")
    return text


def _with_title(row: dict[str, Any], at: str) -> str:
    """The text of a document, after its title where it has one, as BEIR reads its files.

    Documents of encyclopedias may be a title alone.
    """
    title = row.get("title") or ""
    if title and row.get("text") == "":
        return _text(row, "title", at)
    return f"{title} {_text(row, 'text', at)}" if title else _text(row, "text", at)


def _number(row: dict[str, Any], at: str) -> float:
    label: Any = row.get("label")
    number = isinstance(label, int | float) and not isinstance(label, bool)
    if not number or not math.isfinite(label):
        raise DataError(
            f"{at}: the label is {label!r:.60}; similarity needs a number for every pair, as 4.2."
            " Tasks whose labels name classes are scored with --task"
        )
    return float(label)


def _by_id(file: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """The rows of a file by their ids, each with its place."""
    found: dict[str, tuple[dict[str, Any], str]] = {}
    for row, at in read_rows(file):
        name = _id(row.get("id"), "`id`", at)
        if name in found:
            raise DataError(f"{at}: the id {name!r} is also that of {found[name][1]}; give others")
        found[name] = row, at
    return found


def _id(value: Any, what: str, at: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{at}: {what} is {value!r:.60}; give a string or a whole number")
    return str(value)


def _relevant(row: dict[str, Any], number_of: dict[str, int], at: str) -> frozenset[int]:
    given = row.get("relevant")
    if not isinstance(given, list) or not given:
        raise DataError(
            f"{at}: `relevant` is {given!r:.60}; give a list of the ids of the documents that"
            " answer the query, one at least"
        )
    names = [_id(value, "an id in `relevant`", at) for value in given]
    if missing := [name for name in names if name not in number_of]:
        raise DataError(
            f"{at}: {len(missing)} of the {len(names)} ids in `relevant` are not in the corpus of"
            f" {len(number_of)} rows, the first {missing[0]!r}; correct them, or give the corpus"
            " that belongs to the queries"
        )
    if len(set(names)) < len(names):
        raise DataError(f"{at}: `relevant` names an id twice ({names}); give each once")
    return frozenset(number_of[name] for name in names)
