"""Both models of a recipe before a weight is loaded: configurations, shapes, tokenizers."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool
from transformers import PreTrainedTokenizerFast

from ..errors import Problem, RecipeError
from ..models.architecture import Architecture
from ..models.shapes import Shape
from ..tokenization.token_map import TokenMap, map_tokens
from .schema import AlignmentPart


@dataclass(frozen=True)
class Models:
    """Both models before a weight is loaded."""

    architecture: Architecture  # the student's
    student_config: Any
    student: Shape
    teacher_architecture: Architecture | None
    teacher: Shape | None
    teacher_config: Any
    tokenizer: PreTrainedTokenizerFast  # the student's
    teacher_tokenizer: PreTrainedTokenizerFast | None
    copied_layers: list[list[int]] | None  # of the teacher, for every student layer

    @property
    def two_vocabularies(self) -> bool:
        """Whether student and teacher cut text into different tokens."""
        return self.teacher_tokenizer is not None and not same_tokens(
            self.teacher_tokenizer, self.tokenizer
        )

    @cached_property
    def tokens(self) -> TokenMap:
        """The teacher's tokens in the student's vocabulary.

        Raises:
            RecipeError: There is no teacher.
        """
        if self.teacher_tokenizer is None:
            raise RecipeError("this recipe has no teacher whose tokens could be mapped; name one")
        return map_tokens(self.teacher_tokenizer, self.tokenizer)

    def aligned(self, part: AlignmentPart) -> "Models":
        """As objectives see them: both over the tokens that are compared."""
        if self.teacher is None or part.columns == "all":
            return self
        columns = int(np.count_nonzero(compared_tokens(self.tokens, part)))
        student = replace(self.student, vocab_size=columns, tokens=columns, absent=())
        teacher = replace(self.teacher, vocab_size=columns, tokens=columns, absent=())
        return replace(self, student=student, teacher=teacher)

    def after_mixed(self) -> "Models":
        """As later stages find them: the teacher has learned to read the student's tokens."""
        if self.teacher is None:
            return self
        mine = self.student
        teacher = replace(self.teacher, vocab_size=mine.vocab_size).of_tokens(mine.token_ids)
        return replace(self, teacher=teacher, teacher_tokenizer=self.tokenizer)


def compared_tokens(
    tokens: TokenMap, part: AlignmentPart
) -> Bool[np.ndarray, " teacher_vocabulary"]:
    """True at the teacher's tokens whose probabilities are compared."""
    return tokens.written if part.columns == "mapped" else tokens.same >= 0


def same_tokens(teacher: PreTrainedTokenizerFast, student: PreTrainedTokenizerFast) -> bool:
    """Whether tokens and their numbers are the same."""
    return teacher is student or teacher.get_vocab() == student.get_vocab()


def padding_problems(
    architecture: Architecture,
    teacher: PreTrainedTokenizerFast | None,
    student: PreTrainedTokenizerFast,
) -> list[Problem]:
    """Padding tokens of other numbers, where a teacher's positions are counted from behind them."""
    if teacher is None or not architecture.positions_after_padding:
        return []
    mine, theirs = student.pad_token_id, teacher.pad_token_id
    if mine == theirs:
        return []
    message = f"has its padding token at number {mine} and the teacher's at {theirs}, from which"
    message += " this family counts positions; learn it like the teacher's (vocabulary learn"
    return [("student.tokenizer", f"{message} --like TEACHER)")]
