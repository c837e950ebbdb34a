"""Batches in which student and teacher read the same text in different tokens, with links.

Source: match and reduce, Kolesnikova et al. 2022, arXiv:2205.02340.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import datasets
import numpy as np
import torch
from jaxtyping import Bool
from transformers import PreTrainedTokenizerFast

from ..batch import Batch, Links, Tokens
from ..data.corpus import SeededOrder
from ..token_ids import TokenIds
from .batching import ALL_ROWS, BatchSource, as_tokens, chance_of_rows
from .masking import Masking, NextToken, mask_tokens, next_tokens
from .padding import padded, real_tokens
from .token_map import Ids, TokenMap
from .word_runs import TokenizedBy

Kind = Literal["match", "reduce", "boundaries"]


@dataclass(frozen=True)
class AlignedBatches(BatchSource):
    """The batches of a stage that compares two vocabularies.

    Row m of batch n is a pure function of the seed, of n and of m.

    Attributes:
        table: The finest groups, tokenized by both, as made by `tokenize_twice`.
        order: Which sequence is at which place.
        teacher: The teacher's tokenizer.
        student: The student's tokenizer.
        tokens: The teacher's tokens in the student's vocabulary.
        kind: ``match`` links tokens that are the same. ``reduce`` links each teacher token with
            the student tokens that spell it; the student reads these as a second view of the
            text. ``boundaries`` links the last tokens of each group, where decoders predict what
            follows.
        size: Number of sequences in a batch.
        masking: How the student's tokens are masked, or that next tokens are predicted; None
            leaves every token as it is.
        teacher_input: ``everything``, or ``masked``: words that are masked for the student are
            masked for the teacher too.
        positions: The largest number of tokens that the student reads.
        seed: Seed of the masks.
    """

    table: datasets.Dataset
    order: SeededOrder
    teacher: PreTrainedTokenizerFast
    student: PreTrainedTokenizerFast
    tokens: TokenMap
    kind: Kind
    size: int
    masking: Masking | NextToken | None
    teacher_input: Literal["everything", "masked"]
    positions: int
    seed: int

    def batch(self, number: int, rows: slice = ALL_ROWS) -> Batch:
        """The batch of a number, counted from 0, or some rows of it."""
        indices = self.order.indices(number * self.size, self.size)[rows]
        found: dict[str, Any] = self.table[indices.tolist()]
        sequences = [
            {name: column[n] for name, column in found.items()} for n in range(len(indices))
        ]
        chance = chance_of_rows(self.seed, number, range(self.size)[rows])
        mine = [row["student_ids"] for row in sequences]
        theirs = [row["teacher_ids"] for row in sequences]
        student = self._student(sequences, mine, chance)
        linked, view = self._links(sequences)
        ids, real = padded(theirs, self.teacher.pad_token_id or 0, np.int64), real_tokens(theirs)
        read = ids
        if self.teacher_input == "masked":
            gaps = [student.predicted[n, : len(row)].numpy() for n, row in enumerate(mine)]
            hidden = [_touched_groups(row, some) for row, some in zip(sequences, gaps, strict=True)]
            read = np.where(padded(hidden, False, np.bool_), self.teacher.mask_token_id, ids)
        groups_alone = links_of(linked, view)
        of_teacher = groups_alone.teacher.numpy()
        if self.kind != "boundaries":
            teacher = as_tokens(read, real, ids, of_teacher >= 0)
            return Batch(student, teacher, groups_alone)
        labels, _ = next_tokens(ids, real)
        following = [_following(row) for row in sequences]
        mine_next, theirs_next = (
            padded([pair[side] for pair in following], -1, np.int64) for side in (0, 1)
        )
        teacher = as_tokens(ids, real, labels, (of_teacher >= 0) | (theirs_next >= 0))
        links = replace(
            groups_alone,
            student_next=torch.from_numpy(mine_next),
            teacher_next=torch.from_numpy(theirs_next),
        )
        return Batch(student, teacher, links)

    def _student(
        self,
        sequences: list[dict[str, Any]],
        rows: list[Ids],
        chance: Sequence[np.random.Generator],
    ) -> Tokens:
        ids = padded(rows, self.student.pad_token_id or 0, np.int64)
        real = real_tokens(rows)
        if self.masking is None:
            return as_tokens(ids, real, ids, np.zeros_like(real))
        if isinstance(self.masking, NextToken):
            labels, predicted = next_tokens(ids, real)
            return as_tokens(ids, real, labels, predicted)
        maskable = [
            np.repeat(row["cuts"] != TokenizedBy.FRAME, row["student_lengths"])
            & ~np.isin(row["student_ids"], self.student.all_special_ids)
            for row in sequences
        ]
        seen, predicted = mask_tokens(
            ids,
            padded([_continues(row) for row in sequences], False, np.bool_),
            padded(maskable, False, np.bool_),
            chance,
            masking=self.masking,
            mask_id=self.student.mask_token_id,
            random_ids=TokenIds.of(self.student).at,
        )
        return as_tokens(seen, real, ids, predicted)

    def _links(
        self, sequences: list[dict[str, Any]]
    ) -> tuple[list[tuple[Ids, Ids]], Tokens | None]:
        """The groups of student and teacher tokens in every row, and the student's second view."""
        if self.kind != "reduce":
            linked = self._matched if self.kind == "match" else _ends
            return [linked(row) for row in sequences], None
        reduced = [self._reduced(row) for row in sequences]
        parts = [ids for ids, _, _ in reduced]
        ids = padded(parts, self.student.pad_token_id or 0, np.int64)
        of_student = padded([here for _, here, _ in reduced], -1, np.int64)
        view = as_tokens(ids, real_tokens(parts), ids, of_student >= 0)
        return [(here, there) for _, here, there in reduced], view

    def _matched(self, row: Mapping[str, Any]) -> tuple[Ids, Ids]:
        teacher, student = row["teacher_lengths"], row["student_lengths"]
        one = (teacher == 1) & (student == 1) & (row["cuts"] == TokenizedBy.EITHER)
        theirs, mine = (np.cumsum(teacher) - 1)[one], (np.cumsum(student) - 1)[one]
        same = self.tokens.same[row["teacher_ids"][theirs]] == row["student_ids"][mine]
        of_teacher = np.full(len(row["teacher_ids"]), -1)
        of_student = np.full(len(row["student_ids"]), -1)
        of_teacher[theirs[same]] = of_student[mine[same]] = np.arange(same.sum())
        return of_student, of_teacher

    def _reduced(self, row: Mapping[str, Any]) -> tuple[Ids, Ids, Ids]:
        """The student tokens that spell every teacher token, and the groups of both."""
        ids = row["teacher_ids"]
        parts, owner = (found[: self.positions] for found in self.tokens.parts_of(ids))
        # A teacher token is compared if all its parts are read, and if it stands for text.
        whole = np.bincount(owner, minlength=len(ids)) == self.tokens.lengths[ids]
        is_text = ~np.isin(ids, self.teacher.all_special_ids)
        linked = whole & self.tokens.spellable[ids] & is_text
        of_teacher = np.where(linked, np.cumsum(linked) - 1, -1)
        return parts, of_teacher[owner], of_teacher


def links_of(linked: Sequence[tuple[Ids, Ids]], view: Tokens | None = None) -> Links:
    """The links of a batch.

    Args:
        linked: Of each row the groups of the student's tokens and of the teacher's; -1 for none.
        view: What the student reads for the comparison, if it is not its usual tokens.
    """
    real = real_tokens([np.arange(there.max(initial=-1) + 1) for _, there in linked])
    # Where nothing is linked in any of the texts, there is padding to point at all the same.
    real = real if real.size else np.zeros((len(linked), 1), dtype=np.bool_)
    nothing = np.zeros(real.shape, dtype=np.int64)
    return Links(
        view=view,
        student=torch.from_numpy(padded([here for here, _ in linked], -1, np.int64)),
        teacher=torch.from_numpy(padded([there for _, there in linked], -1, np.int64)),
        groups=as_tokens(nothing, real, nothing, real),
    )


def _ends(row: Mapping[str, Any]) -> tuple[Ids, Ids]:
    """For student and teacher, the group at the last token of each group that both have."""
    both = _in_both(row)
    found = []
    for who in ("student", "teacher"):
        groups = np.full(len(row[f"{who}_ids"]), -1)
        groups[(np.cumsum(row[f"{who}_lengths"]) - 1)[both]] = np.arange(both.sum())
        found.append(groups)
    return found[0], found[1]


def _following(row: Mapping[str, Any]) -> tuple[Ids, Ids]:
    """For student and teacher, the group of the next token, among groups that both have."""
    both = _in_both(row)
    number = np.where(both, np.cumsum(both) - 1, -1)
    found = []
    for who in ("student", "teacher"):
        groups = np.repeat(number, row[f"{who}_lengths"])
        found.append(np.append(groups[1:], -1))
    return found[0], found[1]


def _in_both(row: Mapping[str, Any]) -> Bool[np.ndarray, " groups"]:
    """The groups of which both have tokens."""
    both = (row["teacher_lengths"] > 0) & (row["student_lengths"] > 0)
    found: Bool[np.ndarray, " groups"] = both & (row["cuts"] == TokenizedBy.EITHER)
    return found


def _continues(row: Mapping[str, Any]) -> Bool[np.ndarray, " vocabulary"]:
    """True at a student token that continues the word before it."""
    lengths = row["student_lengths"]
    first = np.cumsum(lengths) - lengths
    found = np.ones(len(row["student_ids"]), dtype=np.bool_)
    found[first[lengths > 0]] = row["goes_on"][lengths > 0]
    return found


def _touched_groups(
    row: Mapping[str, Any], predicted: Bool[np.ndarray, " vocabulary"]
) -> Bool[np.ndarray, " teacher_vocabulary"]:
    """True at the teacher's tokens of every group of which the student predicts some token."""
    group = np.repeat(np.arange(len(row["cuts"])), row["student_lengths"])
    hidden = np.bincount(group[predicted], minlength=len(row["cuts"])) > 0
    found: Bool[np.ndarray, " teacher_vocabulary"] = np.repeat(hidden, row["teacher_lengths"])
    return found
