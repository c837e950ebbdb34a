"""Sequences of words, each cut by two tokenizers: what is read with two vocabularies.

A sequence has room for every word in its longer cut, so it stays within its length
whichever cut each word gets. Words that one tokenizer does not know fall to the other.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
from jaxtyping import Bool, Int64
from tokenizers import Encoding
from transformers import PreTrainedTokenizerFast

from ..data.text import TextSource
from .frame import frame_of
from .packing import HeldOut, Sequences, cached_table, tokenizer_hash
from .plain_text import count_spelled, plain_tokenizer
from .words import has_words, shared_words, token_groups

_DOCUMENTS_AT_ONCE = 1000
_COUNTED = (
    *("words", "to_teacher", "to_student", "too_long"),
    *("one_to_one", "grouped", "alone"),
)
_FEATURES = datasets.Features(
    {
        "teacher_ids": datasets.Sequence(datasets.Value("int32")),
        "teacher_lengths": datasets.Sequence(datasets.Value("int32")),
        "student_ids": datasets.Sequence(datasets.Value("int32")),
        "student_lengths": datasets.Sequence(datasets.Value("int32")),
        "cuts": datasets.Sequence(datasets.Value("int8")),
        "goes_on": datasets.Sequence(datasets.Value("bool")),
    }
)


class Cuts(IntEnum):
    """Which cuts a word may get."""

    EITHER = 0
    TEACHER = 1  # the student's tokenizer does not know it
    STUDENT = 2
    FRAME = 3  # special tokens: either, but never hidden


Ids = Int64[np.ndarray, "..."]


class _Words(NamedTuple):
    """A run of words: both cuts of each, which of them it may get, and if it goes on with one."""

    teacher_ids: Int64[np.ndarray, " teacher_vocabulary"]
    teacher_lengths: Int64[np.ndarray, " words"]
    student_ids: Int64[np.ndarray, " student_vocabulary"]
    student_lengths: Int64[np.ndarray, " words"]
    cuts: Int64[np.ndarray, " words"]
    goes_on: Bool[np.ndarray, " words"]

    @property
    def room(self) -> Int64[np.ndarray, " words"]:
        """Tokens of the longer cut."""
        room: Int64[np.ndarray, " words"] = np.maximum(self.teacher_lengths, self.student_lengths)
        return room

    def kept(self, wanted: Bool[np.ndarray, " words"]) -> "_Words":
        """Some of the words."""
        return _Words(
            self.teacher_ids[np.repeat(wanted, self.teacher_lengths)],
            self.teacher_lengths[wanted],
            self.student_ids[np.repeat(wanted, self.student_lengths)],
            self.student_lengths[wanted],
            self.cuts[wanted],
            self.goes_on[wanted],
        )

    def cut(self, places: Iterable[tuple[int, int]]) -> Iterator["_Words"]:
        """The words from each place to another."""
        teacher, student = (
            np.concatenate([[0], np.cumsum(lengths)])
            for lengths in (self.teacher_lengths, self.student_lengths)
        )
        for start, stop in places:
            here = slice(start, stop)
            yield _Words(
                self.teacher_ids[teacher[start] : teacher[stop]],
                self.teacher_lengths[here],
                self.student_ids[student[start] : student[stop]],
                self.student_lengths[here],
                self.cuts[here],
                self.goes_on[here],
            )

    @staticmethod
    def joined(runs: Iterable["_Words"]) -> "_Words":
        """One run after another."""
        return _Words(*(np.concatenate(parts) for parts in zip(*runs, strict=True)))


def cut_twice(
    source: TextSource,
    teacher: PreTrainedTokenizerFast,
    student: PreTrainedTokenizerFast,
    *,
    length: int,
    held_out: HeldOut,
    cache: Path,
    finest: bool = False,
) -> Sequences:
    """The sequences of a source with both cuts of every word, packed, from the cache if there.

    With ``finest`` every stretch of text that both cut at its ends counts as a word, so
    that a word which the two cut at the same places falls into several.

    Its ``counts`` say how many ``words`` there are, how many fell ``to_teacher`` and
    ``to_student``, and how many were ``too_long`` for a sequence and are in none; and how
    many tokens of both tokenizers stand ``one_to_one``, ``grouped`` with several of the
    other's, or ``alone``.

    Raises:
        DataError: The source cannot be read, or gives no sequence.
    """

    def rows(documents: Iterator[str], count: dict[str, int]) -> Iterator[dict[str, Any]]:
        count |= dict.fromkeys(_COUNTED, 0)
        return _rows(documents, teacher, student, length, finest, count)

    return cached_table(
        source,
        rows,
        _FEATURES,
        identity=["two plain cuts", *map(tokenizer_hash, (teacher, student)), length, finest],
        length=length,
        held_out=held_out,
        cache=cache,
    )


def _rows(
    documents: Iterator[str],
    teacher: PreTrainedTokenizerFast,
    student: PreTrainedTokenizerFast,
    length: int,
    finest: bool,
    count: dict[str, int],
) -> Iterator[dict[str, Any]]:
    frames = frame_of(teacher), frame_of(student)
    first, last = (
        _frame(*marks) for marks in zip(*((f.first, f.last) for f in frames), strict=True)
    )
    ends = int(first.room.sum() + last.room.sum())
    carried: list[_Words] = []
    full = False
    for words in _runs(documents, teacher, student, finest, count):
        fits = words.room <= length - ends
        count["too_long"] += int((~fits).sum())
        run = _Words.joined([*carried, words.kept(fits)])
        places, start = _full(run, length - ends)
        for row in run.cut(places):
            count["tokens"] += ends + int(row.room.sum())
            full = True
            yield _Words.joined([first, row, last])._asdict()
        carried = list(run.cut([(start, len(run.cuts))]))
    rest = sum(int(run.room.sum()) for run in carried)
    if full:
        count["truncated_tokens"] += rest
    elif rest:  # less text than a sequence holds is one that is shorter
        count["tokens"] += ends + rest
        yield _Words.joined([first, *carried, last])._asdict()


def _full(run: _Words, room: int) -> tuple[list[tuple[int, int]], int]:
    """First word of each full sequence and the one after its last, and where the rest begins."""
    total = np.concatenate([[0], np.cumsum(run.room)])
    places: list[tuple[int, int]] = []
    start = 0
    while True:
        if start < len(run.cuts) and run.cuts[start] == Cuts.FRAME:
            start += 1  # nothing stands before it that it would part
        stop = int(np.searchsorted(total, total[start] + room, side="right")) - 1
        if stop >= len(run.cuts):
            return places, start
        places.append((start, stop))
        start = stop


def _frame(teacher: tuple[int, ...], student: tuple[int, ...]) -> _Words:
    cuts = np.array([int(Cuts.FRAME)])
    sides = [(np.array(ids, np.int64), np.array([len(ids)])) for ids in (teacher, student)]
    return _Words(*sides[0], *sides[1], cuts, np.array([False]))


def _runs(
    documents: Iterator[str],
    teacher: PreTrainedTokenizerFast,
    student: PreTrainedTokenizerFast,
    finest: bool,
    count: dict[str, int],
) -> Iterator[_Words]:
    """The words of some documents at once, a separator before each document."""
    at_spaces = not has_words(teacher.backend_tokenizer)
    both = teacher, student
    between = [frame_of(tokenizer).between for tokenizer in both]
    while some := list(islice(documents, _DOCUMENTS_AT_ONCE)):
        count["utf8_bytes"] += sum(len(text.encode()) for text in some)
        count["spelled"] += max(count_spelled(tokenizer, some) for tokenizer in both)
        encoded = [
            plain_tokenizer(tokenizer).encode_batch(some, add_special_tokens=False)
            for tokenizer in both
        ]
        ids: tuple[list[Ids], list[Ids]] = ([], [])
        places: tuple[list[Ids], list[Ids]] = ([], [])
        goes_on: list[Ids] = []
        starts = [0]
        for text, *pair in zip(some, *encoded, strict=True):
            if finest:
                found = token_groups(text, *pair)
            else:
                found = shared_words(text, *pair, at_spaces=at_spaces)
            for side, encoding in enumerate(pair):
                ids[side].append(np.array([between[side], *encoding.ids]))
                # The separator is a word of its own before the document's.
                places[side].append(np.concatenate([[0], found[side] + 1]) + starts[-1])
            goes_on.append(np.concatenate([[False], _continues(pair[1])]))
            starts.append(starts[-1] + found.total + 1)
        words = _words(
            [np.concatenate(parts) for parts in ids],
            [np.concatenate(parts) for parts in places],
            np.concatenate(goes_on).astype(np.bool_),
            total=starts[-1],
            unknown=(teacher.unk_token_id, student.unk_token_id),
        )
        words.cuts[starts[:-1]] = Cuts.FRAME
        words = words.kept(words.room > 0)
        _count(words, count)
        yield words


def _count(words: _Words, count: dict[str, int]) -> None:
    is_text = words.cuts != Cuts.FRAME
    count["words"] += int(is_text.sum())
    count["to_teacher"] += int((words.cuts == Cuts.TEACHER).sum())
    count["to_student"] += int((words.cuts == Cuts.STUDENT).sum())
    tokens = words.teacher_lengths + words.student_lengths
    alone = np.minimum(words.teacher_lengths, words.student_lengths) == 0
    count["one_to_one"] += int(tokens[is_text & (words.room == 1) & ~alone].sum())
    count["grouped"] += int(tokens[is_text & (words.room > 1) & ~alone].sum())
    count["alone"] += int(tokens[is_text & alone].sum())


def _continues(encoding: Encoding) -> Bool[np.ndarray, " vocabulary"]:
    """True at a token that goes on with the word before it."""
    numbers = np.array([-1 if n is None else n for n in encoding.word_ids], dtype=np.int64)
    same: Bool[np.ndarray, " vocabulary"] = (np.diff(numbers, prepend=-2) == 0) & (numbers >= 0)
    return same


def _words(
    ids: Sequence[Ids],
    places: Sequence[Ids],
    continues: Bool[np.ndarray, " student_vocabulary"],
    *,
    total: int,
    unknown: tuple[int | None, int | None],
) -> _Words:
    """A word that one tokenizer does not know, or drops, falls to the other.

    Args:
        ids: Of the teacher's tokens, and of the student's.
        places: The word of each.
        continues: True at a token of the student that goes on with a word of its own.
        total: Words.
        unknown: The token of each that stands for what it does not know.
    """
    lengths = [np.bincount(words, minlength=total) for words in places]
    absent = [count == 0 for count in lengths]
    strange = [
        np.bincount(words[tokens == unk], minlength=total) > 0
        for words, tokens, unk in zip(places, ids, unknown, strict=True)
    ]
    by_absence = absent[0] | absent[1]
    lacks = [np.where(by_absence, a, s) for a, s in zip(absent, strange, strict=True)]
    cuts = np.full(total, int(Cuts.EITHER))
    cuts[lacks[0] & ~lacks[1]] = Cuts.STUDENT
    cuts[lacks[1] & ~lacks[0]] = Cuts.TEACHER
    goes_on = np.zeros(total, dtype=np.bool_)
    begins = np.diff(places[1], prepend=-1) != 0  # the first token of each word
    goes_on[places[1][begins]] = continues[begins]
    return _Words(ids[0], lengths[0], ids[1], lengths[1], cuts, goes_on)
