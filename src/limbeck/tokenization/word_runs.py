"""Runs of words in two tokenizations, and how a table stores them."""

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any, NamedTuple

import datasets
import numpy as np
from jaxtyping import Bool, Int64

# The columns of the table, in the order of the fields of `WordRun`.
FEATURES = datasets.Features(
    {
        "teacher_ids": datasets.Sequence(datasets.Value("int32")),
        "teacher_lengths": datasets.Sequence(datasets.Value("int32")),
        "student_ids": datasets.Sequence(datasets.Value("int32")),
        "student_lengths": datasets.Sequence(datasets.Value("int32")),
        "cuts": datasets.Sequence(datasets.Value("int8")),
        "goes_on": datasets.Sequence(datasets.Value("bool")),
    }
)


class TokenizedBy(IntEnum):
    """Whose tokenizer may tokenize a word."""

    EITHER = 0
    TEACHER = 1  # the student's tokenizer does not know the word
    STUDENT = 2  # the teacher's tokenizer does not know the word
    FRAME = 3  # special tokens: either tokenizer, but never masked


class WordRun(NamedTuple):
    """Consecutive words in both tokenizations.

    Attributes:
        teacher_ids: Token ids of the teacher.
        teacher_lengths: Number of the teacher's tokens in each word.
        student_ids: Token ids of the student.
        student_lengths: Number of the student's tokens in each word.
        allowed: Whose tokenization each word may get, as `TokenizedBy`.
        continues: True at a word that continues a word of the student's tokenizer.
    """

    teacher_ids: Int64[np.ndarray, " teacher_vocabulary"]
    teacher_lengths: Int64[np.ndarray, " words"]
    student_ids: Int64[np.ndarray, " student_vocabulary"]
    student_lengths: Int64[np.ndarray, " words"]
    allowed: Int64[np.ndarray, " words"]
    continues: Bool[np.ndarray, " words"]

    @property
    def room(self) -> Int64[np.ndarray, " words"]:
        """Number of tokens in the longer tokenization."""
        room: Int64[np.ndarray, " words"] = np.maximum(self.teacher_lengths, self.student_lengths)
        return room

    def kept(self, wanted: Bool[np.ndarray, " words"]) -> "WordRun":
        """Some of the words."""
        return WordRun(
            self.teacher_ids[np.repeat(wanted, self.teacher_lengths)],
            self.teacher_lengths[wanted],
            self.student_ids[np.repeat(wanted, self.student_lengths)],
            self.student_lengths[wanted],
            self.allowed[wanted],
            self.continues[wanted],
        )

    def split(self, places: Iterable[tuple[int, int]]) -> Iterator["WordRun"]:
        """The words from the first to the second place of each pair."""
        teacher, student = (
            np.concatenate([[0], np.cumsum(lengths)])
            for lengths in (self.teacher_lengths, self.student_lengths)
        )
        for start, stop in places:
            here = slice(start, stop)
            yield WordRun(
                self.teacher_ids[teacher[start] : teacher[stop]],
                self.teacher_lengths[here],
                self.student_ids[student[start] : student[stop]],
                self.student_lengths[here],
                self.allowed[here],
                self.continues[here],
            )

    @staticmethod
    def joined(runs: Iterable["WordRun"]) -> "WordRun":
        """Several runs as one."""
        return WordRun(*(np.concatenate(parts) for parts in zip(*runs, strict=True)))

    def row(self) -> dict[str, Any]:
        """The run as a row of the table."""
        return dict(zip(FEATURES, self, strict=True))
