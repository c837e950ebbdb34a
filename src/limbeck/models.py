"""Both models of a recipe before a weight is loaded: configurations, shapes, tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool
from transformers import PreTrainedTokenizerFast

from .architectures import Anatomy, Shape, shape_of
from .errors import LimbeckError, RecipeError
from .factored import factored_ranks
from .families import anatomy_of
from .faults import Fault
from .pretrained import load_config, load_tokenizer
from .recipe import AlignmentPart, CopyPart, StudentPart, TeacherPart
from .student.layer_copy import copy_faults
from .student.shape import default_config, shape_faults, shape_warnings, student_config
from .tokenization.piece_map import PieceMap, map_pieces

_SPECIAL = ("cls_token", "sep_token", "pad_token", "mask_token")
_SPECIAL_OF_DECODERS = ("eos_token",)
_SIZES = ("layers", "hidden", "heads", "intermediate")


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
    tokenizer_name: str
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
        student = replace(self.student, vocabulary=columns, pieces=columns)
        teacher = replace(self.teacher, vocabulary=columns, pieces=columns)
        return replace(self, student=student, teacher=teacher)

    def after_mixed(self) -> "Models":
        """As later stages find them: the teacher has learned to read the student's pieces."""
        if self.teacher is None:
            return self
        mine = self.student
        teacher = replace(self.teacher, vocabulary=mine.vocabulary, pieces=mine.pieces)
        return replace(self, teacher=teacher, teacher_tokenizer=self.tokenizer)


def compared_pieces(pieces: PieceMap, part: AlignmentPart) -> Bool[np.ndarray, " teacher_pieces"]:
    """True at the teacher's pieces whose probabilities are compared."""
    return pieces.written if part.columns == "mapped" else pieces.same >= 0


def describe_models(
    teacher: TeacherPart | None, student: StudentPart
) -> tuple[Models | None, list[Fault], list[str]]:
    """Shapes and configurations of both models, or None; all their faults; warnings."""
    teacher_config = teacher_anatomy = teacher_shape = tokenizer = None
    faults: list[Fault] = []
    if teacher:
        try:
            teacher_config = load_config(teacher.model)
            teacher_anatomy = teacher.anatomy or anatomy_of(teacher_config.model_type)
            teacher_shape = shape_of(teacher_config, teacher_anatomy)
        except LimbeckError as error:
            faults.append(("teacher.model", str(error)))
    tokenizer_name = student.tokenizer or (teacher.model if teacher else "")
    if not tokenizer_name:
        faults.append(("student.tokenizer", "is missing; without a teacher one must be named"))
    elif not faults or student.tokenizer:
        try:
            tokenizer = load_tokenizer(tokenizer_name)
        except LimbeckError as error:
            faults.append(("student.tokenizer", str(error)))
    family: str | None = teacher_config.model_type if teacher_config else None
    architecture = student.architecture or family
    if architecture is None and not teacher:
        faults.append(("student.architecture", "is missing; without a teacher name one, as bert"))
    anatomy = None
    if architecture and teacher_config and architecture == family:
        anatomy = teacher_anatomy
    elif architecture:
        try:
            anatomy = anatomy_of(architecture)
        except LimbeckError as error:
            faults.append(("student.architecture", str(error)))
    if (
        tokenizer is None
        or architecture is None
        or anatomy is None
        or (teacher and teacher_config is None)
    ):
        return None, faults, []
    same_family = teacher_config is not None and architecture == family
    like = (
        teacher_config
        if same_family
        else default_config(architecture, tokenizer_ids=_token_ids(tokenizer))
    )
    teacher_tokenizer = None
    if teacher:
        teacher_tokenizer = load_tokenizer(teacher.model) if student.tokenizer else tokenizer
    alike = teacher_tokenizer is None or same_pieces(teacher_tokenizer, tokenizer)
    vocabulary = len(tokenizer)
    if teacher_shape and alike:
        vocabulary = max(teacher_shape.vocabulary, vocabulary)
    sizes = {name: getattr(student, name) for name in _SIZES}
    if teacher_shape:
        sizes = {
            name: getattr(teacher_shape, name) if size is None else size
            for name, size in sizes.items()
        }
    if missing := [name for name, size in sizes.items() if size is None]:
        message = "is missing; without a teacher every size must be given"
        return None, [*faults, *((f"student.{name}", message) for name in missing)], []
    shape = Shape(
        **sizes,
        vocabulary=student.vocabulary or vocabulary,
        positions=student.positions or shape_of(like, anatomy).positions,
        key_value_heads=_key_value_heads(student, shape_of(like, anatomy)),
        head_size=_head_size(sizes, teacher_shape if same_family else None),
        causal=anatomy.causal,
        pieces=len(tokenizer),
    )
    if teacher_shape and teacher_tokenizer is not None:
        teacher_shape = replace(teacher_shape, pieces=len(teacher_tokenizer))
        faults += _disagreements(shape, teacher_shape)
    special = _SPECIAL_OF_DECODERS if anatomy.causal else _SPECIAL
    if lacks := [name for name in special if tokenizer.special_tokens_map.get(name) is None]:
        message = f"{tokenizer_name} has no {', '.join(lacks)}; add them"
        faults.append(("student.tokenizer", message))
    faults += [
        (f"student.{name}", message) for name, message in shape_faults(shape, rotary=anatomy.rotary)
    ]
    copied = None
    if student.copy_from_teacher and same_family:
        faults += padding_faults(anatomy, teacher_tokenizer, tokenizer)
    if student.copy_from_teacher:
        if teacher_shape is None or not same_family:
            message = "needs a teacher of the student's architecture; use `copy: null`"
            faults.append(("student.copy", message))
        elif factored_ranks(teacher_config):
            message = "cannot take layers that are in two factors; name a teacher that was exported"
            faults.append(("student.copy", f"{message} dense, or use `copy: null`"))
        else:
            copied = _copied_layers(student.copy_from_teacher, shape.layers, teacher_shape.layers)
            faults += [
                ("student.copy.layers", message)
                for message in copy_faults(shape, teacher_shape, copied, rotary=anatomy.rotary)
            ]
    if faults:
        return None, faults, []
    config = student_config(like, anatomy, shape, copied_layers=copied)
    if not alike:
        for name, number in _token_ids(tokenizer).items():
            setattr(config, name, number)
    warnings = shape_warnings(shape, teacher_shape) if teacher_shape else []
    models = Models(
        anatomy,
        config,
        shape,
        teacher_anatomy,
        teacher_shape,
        teacher_config,
        tokenizer,
        tokenizer_name,
        teacher_tokenizer,
        copied,
    )
    return models, faults, warnings


def _token_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def same_pieces(teacher: PreTrainedTokenizerFast, student: PreTrainedTokenizerFast) -> bool:
    """Whether pieces and their numbers are the same."""
    return teacher is student or teacher.get_vocab() == student.get_vocab()


def _key_value_heads(student: StudentPart, like: Shape) -> int | None:
    """As given, or as many query heads for each as the teacher's or the family's."""
    if student.key_value_heads or not like.key_value_heads:
        return student.key_value_heads
    shared, heads = like.heads // like.key_value_heads, student.heads or like.heads
    return heads // shared if heads % shared == 0 else heads


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


def _head_size(sizes: Mapping[str, int], teacher: Shape | None) -> int | None:
    """The teacher's, where it is not hidden / heads and the student has both alike."""
    alike = teacher and (sizes["hidden"], sizes["heads"]) == (teacher.hidden, teacher.heads)
    return teacher.head_size if teacher and alike else None


def _disagreements(student: Shape, teacher: Shape) -> list[Fault]:
    if student.causal == teacher.causal:
        return []
    kinds = {True: "a decoder", False: "an encoder"}
    message = f"is {kinds[student.causal]}, but the teacher is {kinds[teacher.causal]}; give"
    return [("student.architecture", f"{message} the same kind")]


def _copied_layers(part: CopyPart, student_layers: int, teacher_layers: int) -> list[list[int]]:
    """Teacher layers by name; mean and uniform take each of as many equal parts, or its last."""
    if isinstance(part.layers, list):
        return [run if isinstance(run, list) else [run] for run in part.layers]
    if part.layers == "first":
        return [[n] for n in range(student_layers)]
    if part.layers == "last":
        return [[n] for n in range(teacher_layers - student_layers, teacher_layers)]
    ends = [-(-n * teacher_layers // student_layers) for n in range(student_layers + 1)]
    parts = [list(range(start, stop)) for start, stop in pairwise(ends)]
    return parts if part.layers == "mean" else [[stop - 1] for stop in ends[1:]]
