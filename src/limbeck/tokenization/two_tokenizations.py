"""Sequences of words, each tokenized by both the teacher's and the student's tokenizer.

A sequence has room for the longer tokenization of every word, so it stays within its length
whichever tokenization a word gets. A word that one tokenizer does not know is only read in the
tokens of the other.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64
from transformers import PreTrainedTokenizerFast

from ..data.text import TextSource
from .frame import frame_of
from .packing import tokenizer_hash
from .plain_text import count_spelled, plain_tokenizer
from .stored_table import HeldOut, Row, RowMaker, Sequences, cached_table
from .word_runs import FEATURES, TokenizedBy, WordRun
from .words import continues_word, has_words, shared_words, token_groups

_OF_WORDS = ("words", "to_teacher", "to_student", "one_to_one", "grouped", "alone")
Ids = Int64[np.ndarray, "..."]


def tokenize_twice(
    source: TextSource,
    teacher: PreTrainedTokenizerFast,
    student: PreTrainedTokenizerFast,
    *,
    length: int,
    held_out: HeldOut,
    cache: Path,
    finest: bool = False,
    processes: int = 1,
) -> Sequences:
    """The packed sequences of a source in both tokenizations, from the cache if it has them.

    With ``finest``, every span of text with a token border of both tokenizers at each end is a
    word. ``processes`` says how many tokenize.

    The ``counts`` of the result: ``words`` in all; words that only the teacher's or the student's
    tokenizer knows (``to_teacher``, ``to_student``); words that are ``too_long`` for a sequence and
    are left out; and tokens of both tokenizers that correspond ``one_to_one``, are ``grouped`` with
    several of the other, or stand ``alone``.

    Raises:
        DataError: The source cannot be read, or gives no sequence.
    """
    return cached_table(
        source,
        _TwiceTokenized(teacher, student, length, finest=finest),
        FEATURES,
        identity=["two tokenizations", *map(tokenizer_hash, (teacher, student)), length, finest],
        length=length,
        held_out=held_out,
        cache=cache,
        processes=processes,
    )


class _Documents(NamedTuple):
    """The words of documents, with a separator before each document.

    Attributes:
        words: Of all of them.
        counted: What is counted in them, by name.
    """

    words: WordRun
    counted: dict[str, int]


class _TwiceTokenized(RowMaker):
    """Documents are concatenated in both tokenizations, and split at full sequences."""

    def __init__(
        self,
        teacher: PreTrainedTokenizerFast,
        student: PreTrainedTokenizerFast,
        length: int,
        *,
        finest: bool,
    ) -> None:
        super().__init__("too_long", *_OF_WORDS)
        self._both, self._finest = (teacher, student), finest
        frames = frame_of(teacher), frame_of(student)
        self._first, self._last = (
            _frame(*marks) for marks in zip(*((f.first, f.last) for f in frames), strict=True)
        )
        self._ends = int(self._first.room.sum() + self._last.room.sum())
        self._room = length - self._ends
        self._held: WordRun | None = None

    @property
    def tokenize(self) -> Callable[[list[str]], _Documents]:
        return partial(_tokenized, *self._both, self._finest)

    @property
    def held(self) -> dict[str, Any]:
        return self._held._asdict() if self._held else {}

    def hold(self, held: Mapping[str, Any]) -> None:
        kinds = {"continues": np.bool_}
        arrays = {name: np.array(v, kinds.get(name, np.int64)) for name, v in held.items()}
        self._held = WordRun(**arrays) if arrays else None

    def add(self, tokenized: _Documents) -> list[Row]:
        for name, number in tokenized.counted.items():
            self.count[name] += number
        fits = tokenized.words.room <= self._room
        self.count["too_long"] += int((~fits).sum())
        words = tokenized.words.kept(fits)
        run = WordRun.joined([self._held, words] if self._held else [words])
        places, start = _full(run, self._room)
        self._held = next(run.split([(start, len(run.allowed))]))
        return [self._framed(row) for row in run.split(places)]

    def rest(self, *, any_row: bool) -> list[Row]:
        if self._held is None or not (rest := int(self._held.room.sum())):
            return []
        if not any_row:
            return [self._framed(self._held)]  # less text than a sequence holds
        self.count["truncated_tokens"] += rest
        return []

    def _framed(self, row: WordRun) -> Row:
        self.count["tokens"] += self._ends + int(row.room.sum())
        return WordRun.joined([self._first, row, self._last]).row()


def _full(run: WordRun, room: int) -> tuple[list[tuple[int, int]], int]:
    """The first and one past the last word of each full sequence, and where the rest begins."""
    total = np.concatenate([[0], np.cumsum(run.room)])
    places: list[tuple[int, int]] = []
    start = 0
    while True:
        if start < len(run.allowed) and run.allowed[start] == TokenizedBy.FRAME:
            start += 1  # a separator is not needed at the beginning of a sequence
        stop = int(np.searchsorted(total, total[start] + room, side="right")) - 1
        if stop >= len(run.allowed):
            return places, start
        places.append((start, stop))
        start = stop


def _frame(teacher: tuple[int, ...], student: tuple[int, ...]) -> WordRun:
    allowed = np.array([int(TokenizedBy.FRAME)])
    sides = [(np.array(ids, np.int64), np.array([len(ids)])) for ids in (teacher, student)]
    return WordRun(*sides[0], *sides[1], allowed, np.array([False]))


def _tokenized(
    teacher: PreTrainedTokenizerFast,
    student: PreTrainedTokenizerFast,
    finest: bool,
    documents: list[str],
) -> _Documents:
    both = teacher, student
    at_spaces = [not has_words(tokenizer.backend_tokenizer) for tokenizer in both]
    between = [frame_of(tokenizer).between for tokenizer in both]
    encoded = [
        plain_tokenizer(tokenizer).encode_batch(documents, add_special_tokens=False)
        for tokenizer in both
    ]
    ids: tuple[list[Ids], list[Ids]] = ([], [])
    places: tuple[list[Ids], list[Ids]] = ([], [])
    continues: list[Ids] = []
    starts = [0]
    for text, *pair in zip(documents, *encoded, strict=True):
        if finest:
            found = token_groups(text, *pair)
        else:
            found = shared_words(text, *pair, at_spaces=at_spaces[0])
        for side, encoding in enumerate(pair):
            ids[side].append(np.array([between[side], *encoding.ids]))
            # The separator is one more word, before those of the document.
            places[side].append(np.concatenate([[0], found[side] + 1]) + starts[-1])
        own = continues_word(text, pair[1], at_spaces=at_spaces[1])
        continues.append(np.concatenate([[False], own]))
        starts.append(starts[-1] + found.total + 1)
    words = _words(
        [np.concatenate(parts) for parts in ids],
        [np.concatenate(parts) for parts in places],
        np.concatenate(continues).astype(np.bool_),
        total=starts[-1],
        unknown=(teacher.unk_token_id, student.unk_token_id),
    )
    words.allowed[starts[:-1]] = TokenizedBy.FRAME
    words = words.kept(words.room > 0)
    size = sum(len(text.encode()) for text in documents)
    spelled = max(count_spelled(tokenizer, documents) for tokenizer in both)
    return _Documents(words, {"utf8_bytes": size, "spelled": spelled, **_counted(words)})


def _counted(words: WordRun) -> dict[str, int]:
    is_text = words.allowed != TokenizedBy.FRAME
    tokens = words.teacher_lengths + words.student_lengths
    alone = np.minimum(words.teacher_lengths, words.student_lengths) == 0
    found = (
        is_text.sum(),
        (words.allowed == TokenizedBy.TEACHER).sum(),
        (words.allowed == TokenizedBy.STUDENT).sum(),
        tokens[is_text & (words.room == 1) & ~alone].sum(),
        tokens[is_text & (words.room > 1) & ~alone].sum(),
        tokens[is_text & alone].sum(),
    )
    return dict(zip(_OF_WORDS, map(int, found), strict=True))


def _words(
    ids: Sequence[Ids],
    places: Sequence[Ids],
    continues: Bool[np.ndarray, " student_vocabulary"],
    *,
    total: int,
    unknown: tuple[int | None, int | None],
) -> WordRun:
    """The words; one that a tokenizer does not know, or drops, is left to the other tokenizer.

    Args:
        ids: Token ids of the teacher, and of the student.
        places: The word of each token.
        continues: True at a token that continues a word of the student's tokenizer.
        total: Number of words.
        unknown: The unknown token of each tokenizer.
    """
    lengths = [np.bincount(words, minlength=total) for words in places]
    absent = [count == 0 for count in lengths]
    strange = [
        np.bincount(words[tokens == unk], minlength=total) > 0
        for words, tokens, unk in zip(places, ids, unknown, strict=True)
    ]
    by_absence = absent[0] | absent[1]
    lacks = [np.where(by_absence, a, s) for a, s in zip(absent, strange, strict=True)]
    allowed = np.full(total, int(TokenizedBy.EITHER))
    allowed[lacks[0] & ~lacks[1]] = TokenizedBy.STUDENT
    allowed[lacks[1] & ~lacks[0]] = TokenizedBy.TEACHER
    continuing = np.zeros(total, dtype=np.bool_)
    begins = np.diff(places[1], prepend=-1) != 0  # the first token of each word
    continuing[places[1][begins]] = continues[begins]
    return WordRun(ids[0], lengths[0], ids[1], lengths[1], allowed, continuing)
