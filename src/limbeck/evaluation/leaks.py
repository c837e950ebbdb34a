"""Scored rows among the rows that are learned from: found by exact and by normalised text."""

import hashlib
import unicodedata
from collections.abc import Sequence

import regex

from ..errors import DataError
from .tasks import Example, Task

_BETWEEN = regex.compile(r"[\p{P}\s]+")  # punctuation and white space of any script
_UNSEEN = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
_NAMED = 3  # places of rows, in messages
_Key = tuple[str, ...]


def normalized(text: str) -> str:
    """A text without what copies of it differ in: case, punctuation, spaces, forms of letters.

    What is not seen is left out too: soft hyphens, marks of direction, joiners, byte order marks.

    Source: Unicode Standard Annex 15 (NFKC); Unicode, section 3.13, default case folding.

    >>> normalized("  It's  GOOD -- very good! "), normalized("?!")
    ('it s good very good', '?!')
    """
    text = _UNSEEN.sub("", text)
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _BETWEEN.sub(" ", text).strip() or " ".join(text.split())


def key_of(row: Example) -> _Key:
    """What a row is compared by: its normalised text, or the two of a pair in either order."""
    answer = row.references[0] if row.references else ""  # of a row without a prompt
    text = " ".join(row.words) if row.words is not None else row.text or answer
    pair = [] if row.text_pair is None else [row.text_pair]
    return tuple(sorted(normalized(part) for part in (text, *pair)))


def hash_of(row: Example) -> str:
    """A hash of what a row is compared by, the same everywhere."""
    return hashlib.sha256("\0".join(key_of(row)).encode()).hexdigest()


def without_scored(rows: Sequence[Example], scored: Sequence[Example]) -> tuple[list[Example], int]:
    """The rows whose text is not among the scored ones, and the number of the others.

    Texts are compared normalised, and pairs as pairs, in either order; labels are not compared.

    Args:
        rows: To learn from, labelled or not.
        scored: That no model may have seen.
    """
    known = set(map(key_of, scored))
    kept = [row for row in rows if key_of(row) not in known]
    return kept, len(rows) - len(kept)


def check_leak(train: Sequence[Example], scored: Sequence[Example]) -> None:
    """See that not all scored rows are among the training rows.

    A few duplicates are in many published tasks; `leak_notes` counts them.

    Raises:
        DataError: They all are, as where one file or split is given for both.
    """
    shared = shared_places(train, scored)
    if scored and len(shared) == len(scored):
        pairs = [f"{place} as {other}" for place, other in shared[:_NAMED]]
        more = ", ..." if len(shared) > _NAMED else ""
        raise DataError(
            f"all {len(scored)} scored rows are among the training rows ({', '.join(pairs)}{more});"
            " give other rows to be scored, or hold a part of the training rows out: split:"
            " {dev: 0.1}"
        )


def leak_notes(task: Task) -> list[str]:
    """A note on how many scored rows of a task are among its training rows, or nothing."""
    if not task.shared:
        return []
    place, other = task.shared[0]
    are = "1 is" if len(task.shared) == 1 else f"{len(task.shared)} are"
    return [
        f"{task.name}: of its {len(task.test)} scored rows {are} among its training rows too, by"
        f" normalised text ({place} as {other})"
    ]


def shared_places(
    train: Sequence[Example], scored: Sequence[Example]
) -> tuple[tuple[str, str], ...]:
    """The place of every scored row that is among the training rows, and of the first of those."""
    known: dict[_Key, str] = {}
    for row in train:
        known.setdefault(key_of(row), row.place)
    return tuple((row.place, known[key]) for row in scored if (key := key_of(row)) in known)
