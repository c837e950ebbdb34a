"""Sequences of words, each cut by two tokenizers: what is read with a mixed vocabulary.

A sequence has room for every word in its longer cut, so it stays within its length
whichever cut each word gets. Words that one tokenizer does not know fall to the other.
"""

from collections.abc import Iterator
from enum import IntEnum
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
from jaxtyping import Int64
from transformers import PreTrainedTokenizerFast

from ..data.text import TextSource
from .packing import HeldOut, Sequences, cached_table, frame_of, tokenizer_hash
from .words import has_words, shared_words

_AT_ONCE = 1000
_FEATURES = datasets.Features(
    {
        "teacher_ids": datasets.Sequence(datasets.Value("int32")),
        "teacher_lengths": datasets.Sequence(datasets.Value("int32")),
        "student_ids": datasets.Sequence(datasets.Value("int32")),
        "student_lengths": datasets.Sequence(datasets.Value("int32")),
        "cuts": datasets.Sequence(datasets.Value("int8")),
    }
)


class Cuts(IntEnum):
    """Which cuts a word may get."""

    EITHER = 0
    TEACHER = 1  # the student's tokenizer does not know it
    STUDENT = 2
    FRAME = 3  # special tokens: either, but never hidden


Ids = Int64[np.ndarray, "_"]


class _Word(NamedTuple):
    """Both cuts of a word, and which of them it may get."""

    teacher: Ids
    student: Ids
    cuts: Cuts

    @property
    def room(self) -> int:
        return max(len(self.teacher), len(self.student))


def cut_twice(
    source: TextSource,
    teacher: PreTrainedTokenizerFast,
    student: PreTrainedTokenizerFast,
    *,
    length: int,
    held_out: HeldOut,
    cache: Path,
) -> Sequences:
    """The sequences of a source with both cuts of every word, packed, from the cache if there.

    Its ``counts`` say how many ``words`` there are, how many fell ``to_teacher`` and
    ``to_student``, and how many were ``too_long`` for a sequence and are in none.

    Raises:
        DataError: The source cannot be read, or gives no sequence.
    """

    def rows(documents: Iterator[str], count: dict[str, int]) -> Iterator[dict[str, Any]]:
        count |= dict.fromkeys(("words", "to_teacher", "to_student", "too_long"), 0)
        return _rows(documents, teacher, student, length, count)

    return cached_table(
        source,
        rows,
        _FEATURES,
        identity=["two cuts", tokenizer_hash(teacher), tokenizer_hash(student), length],
        length=length,
        held_out=held_out,
        cache=cache,
    )


def _rows(
    documents: Iterator[str],
    teacher: PreTrainedTokenizerFast,
    student: PreTrainedTokenizerFast,
    length: int,
    count: dict[str, int],
) -> Iterator[dict[str, Any]]:
    frames = frame_of(teacher), frame_of(student)
    first, last, between = (
        _Word(np.array(mine, np.int64), np.array(theirs, np.int64), Cuts.FRAME)
        for mine, theirs in zip(*((f.first, f.last, [f.between]) for f in frames), strict=True)
    )
    words: list[_Word] = [first]
    taken = first.room + last.room

    def row() -> dict[str, Any]:
        whole = [*words, last]
        count["pieces"] += taken
        return {
            "teacher_ids": np.concatenate([word.teacher for word in whole]),
            "teacher_lengths": [len(word.teacher) for word in whole],
            "student_ids": np.concatenate([word.student for word in whole]),
            "student_lengths": [len(word.student) for word in whole],
            "cuts": [int(word.cuts) for word in whole],
        }

    for document in _documents(documents, teacher, student, count):
        for word in [between, *document] if len(words) > 1 else document:
            if first.room + word.room + last.room > length:
                count["too_long"] += 1
                continue
            if taken + word.room > length:
                yield row()
                words, taken = [first], first.room + last.room
                if word is between:
                    continue
            words.append(word)
            taken += word.room
    count["cut_pieces"] += taken - first.room - last.room


def _documents(
    documents: Iterator[str],
    teacher: PreTrainedTokenizerFast,
    student: PreTrainedTokenizerFast,
    count: dict[str, int],
) -> Iterator[list[_Word]]:
    """The words of every document."""
    at_spaces = not has_words(teacher.backend_tokenizer)
    unknown = teacher.unk_token_id, student.unk_token_id
    while some := list(islice(documents, _AT_ONCE)):
        count["utf8_bytes"] += sum(len(text.encode()) for text in some)
        encoded = [
            tokenizer.backend_tokenizer.encode_batch(some, add_special_tokens=False)
            for tokenizer in (teacher, student)
        ]
        for text, *both in zip(some, *encoded, strict=True):
            words = shared_words(text, *both, at_spaces=at_spaces)
            cuts = [
                _split(np.array(encoding.ids, np.int64), places, words.total)
                for encoding, places in zip(both, words[:2], strict=True)
            ]
            found = [
                _word(mine, theirs, unknown)
                for mine, theirs in zip(*cuts, strict=True)
                if len(mine) or len(theirs)
            ]
            count["words"] += len(found)
            count["to_teacher"] += sum(word.cuts == Cuts.TEACHER for word in found)
            count["to_student"] += sum(word.cuts == Cuts.STUDENT for word in found)
            yield found


def _word(teacher: Ids, student: Ids, unknown: tuple[int | None, int | None]) -> _Word:
    """A word that one tokenizer does not know, or drops, falls to the other."""
    lacks = [not len(teacher), not len(student)]
    if not any(lacks):
        lacks = [bool((ids == u).any()) for ids, u in zip((teacher, student), unknown, strict=True)]
    kind = Cuts.EITHER
    if lacks[0] != lacks[1]:
        kind = Cuts.STUDENT if lacks[0] else Cuts.TEACHER
    return _Word(teacher, student, kind)


def _split(ids: Ids, words: Ids, total: int) -> list[Ids]:
    return np.split(ids, np.searchsorted(words, np.arange(1, total)))
