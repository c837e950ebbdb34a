"""From a recipe to the plain objects that the rooms take, with every fault found on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from transformers import PreTrainedTokenizerFast

from .architectures import Anatomy, Shape, anatomy_of, shape_of
from .data.text import check_source
from .errors import LimbeckError, RecipeError
from .evaluation.tasks import load_task
from .objectives.contract import Objective
from .pretrained import load_config, load_tokenizer
from .recipe import (
    CopyPart,
    DataPart,
    EvaluationPart,
    Fault,
    Recipe,
    StagePart,
    StudentPart,
    TeacherPart,
    parse_objective,
    parse_recipe,
)
from .student.layer_copy import copy_faults
from .student.shape import default_config, shape_faults, shape_warnings, student_config
from .tokenization.masking import Masking
from .training.stages import Stage

_SPECIAL = ("cls_token", "sep_token", "pad_token", "mask_token")
_Part = TypeVar("_Part", bound=BaseModel)


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


@dataclass(frozen=True)
class Setup:
    """A checked recipe, and what follows from it."""

    recipe: Recipe
    models: Models
    stages: list[Stage]
    maskings: list[Masking | None]
    warnings: list[str]

    @property
    def has_trained_head(self) -> bool:
        """Whether some stage trains the student's vocabulary head."""
        return any(stage.student_needs().logits for stage in self.stages)


def prepare(raw: Mapping[str, Any]) -> Setup:
    """The setup of a recipe.

    Raises:
        RecipeError: With every fault, one a line, each with its field's path.
    """
    setup, faults = check(raw)
    if setup is None:
        lines = "\n".join(f"  {path or 'recipe'}: {message}" for path, message in faults)
        raise RecipeError(f"the recipe has {len(faults)} fault(s):\n{lines}")
    return setup


def check(raw: Mapping[str, Any]) -> tuple[Setup | None, list[Fault]]:
    """The setup of a recipe, or None and all that is wrong with it.

    Parts without faults of form are checked for what they mean even where
    others have some, so that one look shows everything.
    """
    recipe, faults = parse_recipe(raw)
    if data := _part(DataPart, raw.get("data")):
        faults += _data_faults(data)
    if evaluation := _part(EvaluationPart, raw.get("evaluation", {})):
        faults += _evaluation_faults(evaluation)
    models = None
    teacher = raw.get("teacher")
    teacher_part = _part(TeacherPart, {"model": teacher} if isinstance(teacher, str) else teacher)
    student_part = _part(StudentPart, raw.get("student"))
    warnings: list[str] = []
    if student_part and (teacher_part or teacher is None):
        models, found, warnings = _models(teacher_part, student_part)
        faults += found
    if models and data and data.length > models.student.positions:
        limit = models.student.positions
        faults.append(("data.length", f"is {data.length}, but the student reads {limit} at most"))
    stages, maskings = [], []
    for number, stage_raw in enumerate(raw.get("stages") or []):
        part = _part(StagePart, stage_raw)
        if part and models and data:
            stage, masking, found = _stage(part, number, models, data)
            faults += [fault for fault in found if fault not in faults]
            stages.append(stage)
            maskings.append(masking)
    if recipe is None or models is None or faults:
        return None, faults
    return Setup(recipe, models, [s for s in stages if s], maskings, warnings), []


def _part(kind: type[_Part], value: Any) -> _Part | None:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


def _data_faults(data: DataPart) -> list[Fault]:
    faults = []
    for number, source in enumerate(data.text):
        try:
            check_source(source)
        except LimbeckError as error:
            faults.append((f"data.text.{number}", str(error)))
    return faults


def _evaluation_faults(evaluation: EvaluationPart) -> list[Fault]:
    faults = []
    for number, task in enumerate(evaluation.tasks):
        try:
            load_task(task, test_split=evaluation.test_split)
        except LimbeckError as error:
            faults.append((f"evaluation.tasks.{number}", str(error)))
    return faults


def _models(
    teacher: TeacherPart | None, student: StudentPart
) -> tuple[Models | None, list[Fault], list[str]]:
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


def _stage(
    part: StagePart, number: int, models: Models, data: DataPart
) -> tuple[Stage | None, Masking | None, list[Fault]]:
    faults: list[Fault] = []
    bound: dict[str, Objective] = {}
    weights: dict[str, float] = {}
    for name, options in part.objectives.items():
        place = ("stages", str(number), "objectives", name)
        objective, weight, found = parse_objective(name, options, place)
        faults += found
        if objective is None:
            continue
        wrong = objective.faults(models.student, models.teacher)
        faults += [(".".join([*place, *([f] if f else [])]), message) for f, message in wrong]
        if not wrong:
            bound[name] = objective.bound(models.student, models.teacher)
            weights[name] = weight
    if part.tokens is not None and not data.packed:
        faults.append((f"stages.{number}.tokens", "needs `data.packed`; unpacked, give steps"))
    if part.micro_batch_size and part.micro_batch_size > part.batch_size:
        faults.append(
            (f"stages.{number}.micro_batch_size", f"is above batch_size={part.batch_size}")
        )
    if faults:
        return None, None, faults
    stage = Stage(
        name=part.name or "+".join(bound),
        objectives=bound,
        weights=weights,
        steps=part.steps or steps_of_tokens(part.tokens or 0, part.batch_size, data.length),
        batch_size=part.batch_size,
        micro_batch_size=part.micro_batch_size or part.batch_size,
        optimizer=part.optimizer,
        dropout=part.dropout,
    )
    needs_labels = stage.student_needs().logits or stage.teacher_needs().logits
    return stage, part.masking or (Masking() if needs_labels else None), []


def steps_of_tokens(tokens: int, batch_size: int, length: int) -> int:
    """Steps that see at least that many tokens, with full sequences.

    >>> steps_of_tokens(5_000_000, 32, 128)
    1221
    """
    return max(1, -(-tokens // (batch_size * length)))


def layer_lines(stages: Sequence[Stage]) -> list[tuple[str, str, int, int]]:
    """(stage, objective, student layer, teacher layer) of every pair that learns."""
    return [
        (stage.name, name, student, teacher)
        for stage in stages
        for name, objective in stage.objectives.items()
        for student, teacher in objective.layer_pairs()
    ]
