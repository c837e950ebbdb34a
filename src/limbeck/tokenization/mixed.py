"""Sequences in which every word is tokenized by one of two tokenizers, chosen at random.

Tokens of the student are numbered after those of the teacher, so a mixed sequence is one row of
ids.

Source: mixed-vocabulary training, Zhao et al. 2021, arXiv:1909.11687, section 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import datasets
import numpy as np
from jaxtyping import Bool, Int64
from transformers import PreTrainedTokenizerFast

from ..batch import Batch
from ..data.corpus import SeededOrder
from ..token_ids import TokenIds
from .batching import ALL_ROWS, BatchSource, chance_of_rows, read_by_both
from .masking import Masking, mask_tokens
from .padding import padded, real_tokens
from .word_runs import TokenizedBy


class MixedSequence(NamedTuple):
    """One sequence in which each word is tokenized by one of the two tokenizers.

    Attributes:
        ids: Token ids, those of the student above those of the teacher.
        continues: True where a token continues the word before it.
        framing: True at special tokens.
    """

    ids: Int64[np.ndarray, " vocabulary"]
    continues: Bool[np.ndarray, " vocabulary"]
    framing: Bool[np.ndarray, " vocabulary"]


def mix_words(
    row: Mapping[str, Any], heads: Bool[np.ndarray, " words"], *, student_from: int
) -> MixedSequence:
    """The sequence in which the words with heads are tokenized by the student's tokenizer.

    Args:
        row: A row of a table of `tokenize_twice`.
        heads: A coin flip for each word, without effect where only one tokenizer knows the word.
        student_from: The number of the student's first token.

    >>> row = {"teacher_ids": [7, 8, 9], "teacher_lengths": [1, 2], "cuts": [0, 0],
    ...        "student_ids": [1, 2, 3], "student_lengths": [2, 1]}
    >>> row = {name: np.array(values) for name, values in row.items()}
    >>> mix_words(row, np.array([True, False]), student_from=100).ids.tolist()
    [101, 102, 8, 9]
    """
    by = row["cuts"]
    by_student = (heads & (by != TokenizedBy.TEACHER)) | (by == TokenizedBy.STUDENT)
    teacher, student = row["teacher_lengths"], row["student_lengths"]
    lengths = np.where(by_student, student, teacher)
    word = np.repeat(np.arange(len(lengths)), lengths)
    within = np.arange(len(word)) - (np.cumsum(lengths) - lengths)[word]
    place = np.where(by_student, np.cumsum(student) - student, np.cumsum(teacher) - teacher)
    place = place[word] + within
    is_student = by_student[word]
    ids = np.empty(len(word), dtype=np.int64)
    ids[is_student] = row["student_ids"][place[is_student]] + student_from
    ids[~is_student] = row["teacher_ids"][place[~is_student]]
    return MixedSequence(ids, within > 0, (by == TokenizedBy.FRAME)[word])


@dataclass(frozen=True)
class MixedBatches(BatchSource):
    """The batches of a stage that mixes the vocabularies of teacher and student.

    Row m of batch n is a pure function of the seed, of n, of m and of the share.

    Attributes:
        table: Words tokenized by both tokenizers, as made by `tokenize_twice`.
        order: Which sequence is at which place.
        teacher: The teacher's tokenizer.
        student: The student's tokenizer.
        student_from: The number of the student's first token: rows of the teacher's table.
        size: Number of sequences in a batch.
        masking: How tokens of both vocabularies are masked.
        shares: Probability in each batch that a word is tokenized by the student's tokenizer; the
            last one is used for all later batches.
        seed: Seed of coin flips and masks.
    """

    table: datasets.Dataset
    order: SeededOrder
    teacher: PreTrainedTokenizerFast
    student: PreTrainedTokenizerFast
    student_from: int
    size: int
    masking: Masking
    shares: Sequence[float]
    seed: int

    def batch(self, number: int, rows: slice = ALL_ROWS) -> Batch:
        """The batch of a number, or some rows of it; student and teacher read the same tokens."""
        indices = self.order.indices(number * self.size, self.size)[rows]
        found: dict[str, Any] = self.table[indices.tolist()]
        chance = chance_of_rows(self.seed, number, range(self.size)[rows])
        share = self.shares[min(number, len(self.shares) - 1)]
        sequences = []
        for place, source in enumerate(chance):
            row = {name: column[place] for name, column in found.items()}
            heads = source.random(len(row["cuts"])) < share
            sequences.append(mix_words(row, heads, student_from=self.student_from))
        return self._collated(sequences, chance)

    def _collated(
        self, sequences: Sequence[MixedSequence], chance: Sequence[np.random.Generator]
    ) -> Batch:
        tokens = padded([s.ids for s in sequences], self.teacher.pad_token_id or 0, np.int64)
        continues = padded([s.continues for s in sequences], False, np.bool_)
        real = real_tokens([s.ids for s in sequences])
        maskable = real & ~padded([s.framing for s in sequences], True, np.bool_)
        by_student = tokens >= self.student_from
        unknown = [] if self.teacher.unk_token_id is None else [self.teacher.unk_token_id]
        if self.student.unk_token_id is not None:
            unknown.append(self.student_from + self.student.unk_token_id)
        maskable &= ~np.isin(tokens, unknown)
        mine, theirs = TokenIds.of(self.student), TokenIds.of(self.teacher)
        seen, predicted = mask_tokens(
            tokens,
            continues,
            maskable,
            chance,
            masking=self.masking,
            mask_id=np.where(
                by_student,
                self.student_from + self.student.mask_token_id,
                self.teacher.mask_token_id,
            ),
            random_ids=lambda shares: np.where(
                by_student, self.student_from + mine.at(shares), theirs.at(shares)
            ),
        )
        return read_by_both(seen, real, tokens, predicted)
