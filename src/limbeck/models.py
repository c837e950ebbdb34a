"""Both models of a recipe before a weight is loaded: configurations, shapes, tokenizer."""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast

from .architectures import Anatomy, Shape, anatomy_of, shape_of
from .errors import LimbeckError
from .pretrained import load_config, load_tokenizer
from .recipe import CopyPart, Fault, StudentPart, TeacherPart
from .student.layer_copy import copy_faults
from .student.shape import default_config, shape_faults, shape_warnings, student_config

_SPECIAL = ("cls_token", "sep_token", "pad_token", "mask_token")


@dataclass(frozen=True)
class Models:
    """Both models before a weight is loaded."""

    anatomy: Anatomy  # the student's
    student_config: Any
    student: Shape
    teacher_anatomy: Anatomy | None
    teacher: Shape | None
    teacher_config: Any
    tokenizer: PreTrainedTokenizerFast
    tokenizer_name: str
    copied_layers: list[int] | None


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
            lacks = [name for name in _SPECIAL if tokenizer.special_tokens_map.get(name) is None]
            if lacks:
                faults.append(
                    ("student.tokenizer", f"{tokenizer_name} has no {', '.join(lacks)}; add them")
                )
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
    vocabulary = teacher_shape.vocabulary if teacher_shape else len(tokenizer)
    shape = Shape(
        layers=student.layers,
        hidden=student.hidden,
        heads=student.heads,
        intermediate=student.intermediate,
        vocabulary=vocabulary,
        positions=student.positions or shape_of(like, anatomy).positions,
    )
    faults += [(f"student.{name}", message) for name, message in shape_faults(shape, teacher_shape)]
    copied = None
    if student.copy_from_teacher:
        if teacher_shape is None or not same_family:
            message = "needs a teacher of the student's architecture; use `copy: null`"
            faults.append(("student.copy", message))
        else:
            copied = _copied_layers(student.copy_from_teacher, shape.layers, teacher_shape.layers)
            faults += [
                ("student.copy.layers", m) for m in copy_faults(shape, teacher_shape, copied)
            ]
    if teacher and student.tokenizer:
        faults += _vocabulary_faults(teacher.model, tokenizer)
    if faults:
        return None, faults, []
    config = student_config(like, anatomy, shape, copied_layers=copied)
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
        copied,
    )
    return models, faults, warnings


def _token_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }


def _vocabulary_faults(teacher: str, tokenizer: PreTrainedTokenizerFast) -> list[Fault]:
    if load_tokenizer(teacher).get_vocab() == tokenizer.get_vocab():
        return []
    message = "its vocabulary is not the teacher's; leave it out to keep the teacher's"
    return [("student.tokenizer", message)]


def _copied_layers(part: CopyPart, student_layers: int, teacher_layers: int) -> list[int]:
    """Teacher layers by name; uniform takes the last of each of the student's equal parts."""
    if isinstance(part.layers, list):
        return part.layers
    if part.layers == "first":
        return list(range(student_layers))
    if part.layers == "last":
        return list(range(teacher_layers - student_layers, teacher_layers))
    return [-(-(n + 1) * teacher_layers // student_layers) - 1 for n in range(student_layers)]
