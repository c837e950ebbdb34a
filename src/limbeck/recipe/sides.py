"""Both models of a recipe before a weight is loaded: configurations, shapes, tokenizers."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool
from transformers import PreTrainedTokenizerFast

from ..errors import Problem, RecipeError
from ..models.architecture import Architecture
from ..models.shapes import Shape, shape_of
from ..models.task_heads import TaskHead
from ..token_ids import TokenIds
from ..tokenization.post_processor import own_frame
from ..tokenization.token_map import TokenMap, map_tokens
from .stage_part import AlignmentPart

_SPECIAL = ("cls_token", "sep_token", "pad_token")
_SPECIAL_OF_DECODERS = ("eos_token",)


@dataclass(frozen=True)
class ModelSide:
    """One of the two models.

    Attributes:
        name: Where its weights lie; empty for a student that is made by the run.
        config: Its transformers configuration.
        shape: Its sizes, and the ids of its tokens.
        architecture: Where its parts are.
        tokenizer: What it reads text with.
        head: Of a task that is learned; None where it has none.
    """

    name: str
    config: Any
    shape: Shape
    architecture: Architecture
    tokenizer: PreTrainedTokenizerFast
    head: TaskHead | None = None

    @classmethod
    def of(
        cls, name: str, config: Any, architecture: Architecture, tokenizer: PreTrainedTokenizerFast
    ) -> "ModelSide":
        """A model of the sizes of its configuration, without the head of a task.

        Raises:
            ModelError: The configuration has no field for one of them.
        """
        shape = shape_of(config, architecture).of_tokens(TokenIds.of(tokenizer))
        return cls(name, config, shape, architecture, tokenizer)

    def over(self, *, vocab_size: int) -> "ModelSide":
        """The same over so many tokens, each of which has a row."""
        shape = replace(self.shape, vocab_size=vocab_size, tokens=vocab_size, absent=())
        return replace(self, shape=shape)


@dataclass(frozen=True)
class Models:
    """Both models before a weight is loaded.

    Attributes:
        student: The one that learns.
        teacher: The one that it learns from; None where the recipe has none.
        copied_layers: Teacher layers that each student layer starts from; None where it starts
            from weights of its own.
        ensemble: Further teachers, whose answers are averaged with those of the first.
    """

    student: ModelSide
    teacher: ModelSide | None
    copied_layers: list[list[int]] | None = None
    ensemble: tuple[ModelSide, ...] = ()

    @property
    def two_vocabularies(self) -> bool:
        """Whether student and teacher tokenize text differently."""
        return self.teacher is not None and not same_tokens(
            self.teacher.tokenizer, self.student.tokenizer
        )

    @cached_property
    def tokens(self) -> TokenMap:
        """The teacher's tokens in the student's vocabulary.

        Raises:
            RecipeError: There is no teacher.
        """
        return map_tokens(self.required_teacher().tokenizer, self.student.tokenizer)

    @property
    def shapes(self) -> tuple[Shape, Shape | None]:
        """The student's and the teacher's."""
        return self.student.shape, self.teacher.shape if self.teacher else None

    @property
    def teacher_names(self) -> list[str]:
        """Names of the teacher and of those whose answers are averaged with its own."""
        return [side.name for side in (self.teacher, *self.ensemble) if side]

    def required_teacher(self) -> ModelSide:
        """The teacher, where a recipe needs one.

        Raises:
            RecipeError: There is none.
        """
        if self.teacher is None:
            raise RecipeError("the recipe needs a teacher for this and has none; name one")
        return self.teacher

    def aligned(self, part: AlignmentPart) -> "Models":
        """As objectives see them: both over the tokens that are compared."""
        if self.teacher is None or part.columns == "all":
            return self
        columns = int(np.count_nonzero(compared_tokens(self.tokens, part)))
        return replace(
            self,
            student=self.student.over(vocab_size=columns),
            teacher=self.teacher.over(vocab_size=columns),
        )

    def after_mixed(self) -> "Models":
        """As later stages find them: the teacher has learned to read the student's tokens."""
        if self.teacher is None:
            return self
        mine = self.student
        shape = replace(self.teacher.shape, vocab_size=mine.shape.vocab_size)
        shape = shape.of_tokens(mine.shape.token_ids)
        return replace(self, teacher=replace(self.teacher, shape=shape, tokenizer=mine.tokenizer))


def compared_tokens(
    tokens: TokenMap, part: AlignmentPart
) -> Bool[np.ndarray, " teacher_vocabulary"]:
    """True at the teacher's tokens whose probabilities are compared."""
    return tokens.spellable if part.columns == "mapped" else tokens.same >= 0


def same_tokens(teacher: PreTrainedTokenizerFast, student: PreTrainedTokenizerFast) -> bool:
    """Whether tokens and their numbers are the same."""
    if teacher is student:
        return True
    return len(teacher) == len(student) and teacher.get_vocab() == student.get_vocab()


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


def special_problems(
    architecture: Architecture, tokenizer: PreTrainedTokenizerFast, field: str, name: str
) -> list[Problem]:
    """Special tokens that a student needs and its tokenizer lacks, or has at another number."""
    special = _SPECIAL_OF_DECODERS if architecture.causal else _SPECIAL
    plain = tokenizer.cls_token is None and tokenizer.sep_token is None
    if not architecture.causal and plain and own_frame(tokenizer.backend_tokenizer) is not None:
        special = ("pad_token",)  # T5 puts the end of the text behind it, and nothing before
    lacks = [token for token in special if tokenizer.special_tokens_map.get(token) is None]
    if lacks:
        them = "it" if len(lacks) == 1 else "them"
        message = f"{name} has no {', '.join(lacks)}; name {them} in its tokenizer_config.json"
        return [(field, message)]
    fixed, padding = architecture.padding_id, tokenizer.pad_token_id
    if fixed in (None, padding):
        return []
    message = f"{name} has its padding token at number {padding}, and this family counts positions"
    return [(field, f"{message} by number {fixed}; learn it with --like a model of the family")]
