"""Both models of a recipe before a weight is loaded: configurations, shapes, tokenizers."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool
from transformers import PreTrainedTokenizerFast

from ..errors import Fault, RecipeError
from ..models.anatomy import Anatomy
from ..models.shapes import Shape
from ..tokenization.piece_map import PieceMap, map_pieces
from .schema import AlignmentPart


@dataclass(frozen=True)
class Models:
    """Both models before a weight is loaded."""

    anatomy: Anatomy  # the student's
    student_config: Any
    student: Shape
    teacher_anatomy: Anatomy | None
    teacher: Shape | None
    teacher_config: Any
    tokenizer: PreTrainedTokenizerFast  # the student's
    teacher_tokenizer: PreTrainedTokenizerFast | None
    copied_layers: list[list[int]] | None  # of the teacher, for every student layer

    @property
    def two_vocabularies(self) -> bool:
        """Whether student and teacher cut text into different pieces."""
        return self.teacher_tokenizer is not None and not same_pieces(
            self.teacher_tokenizer, self.tokenizer
        )

    @cached_property
    def pieces(self) -> PieceMap:
        """The teacher's pieces in the student's vocabulary.

        Raises:
            RecipeError: There is no teacher.
        """
        if self.teacher_tokenizer is None:
            raise RecipeError("this recipe has no teacher whose pieces could be mapped; name one")
        return map_pieces(self.teacher_tokenizer, self.tokenizer)

    def aligned(self, part: AlignmentPart) -> "Models":
        """As objectives see them: both over the pieces that are compared."""
        if self.teacher is None or part.columns == "all":
            return self
        columns = int(np.count_nonzero(compared_pieces(self.pieces, part)))
        student = replace(self.student, vocabulary=columns, pieces=columns, absent=())
        teacher = replace(self.teacher, vocabulary=columns, pieces=columns, absent=())
        return replace(self, student=student, teacher=teacher)

    def after_mixed(self) -> "Models":
        """As later stages find them: the teacher has learned to read the student's pieces."""
        if self.teacher is None:
            return self
        mine = self.student
        teacher = replace(self.teacher, vocabulary=mine.vocabulary).of_tokens(mine.token_ids)
        return replace(self, teacher=teacher, teacher_tokenizer=self.tokenizer)


def compared_pieces(pieces: PieceMap, part: AlignmentPart) -> Bool[np.ndarray, " teacher_pieces"]:
    """True at the teacher's pieces whose probabilities are compared."""
    return pieces.written if part.columns == "mapped" else pieces.same >= 0


def same_pieces(teacher: PreTrainedTokenizerFast, student: PreTrainedTokenizerFast) -> bool:
    """Whether pieces and their numbers are the same."""
    return teacher is student or teacher.get_vocab() == student.get_vocab()


def padding_faults(
    anatomy: Anatomy,
    teacher: PreTrainedTokenizerFast | None,
    student: PreTrainedTokenizerFast,
) -> list[Fault]:
    """Padding pieces of other numbers, where a teacher's positions are counted from behind them."""
    if teacher is None or not anatomy.positions_after_padding:
        return []
    mine, theirs = student.pad_token_id, teacher.pad_token_id
    if mine == theirs:
        return []
    message = f"has its padding piece at number {mine} and the teacher's at {theirs}, from which"
    message += " this family counts positions; learn it like the teacher's (vocabulary learn"
    return [("student.tokenizer", f"{message} --like TEACHER)")]
