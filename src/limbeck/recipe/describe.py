"""Both models of a recipe, described before a weight is loaded; every problem is found on the way."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerFast

from ..errors import LimbeckError, Problem
from ..models.architecture import Architecture
from ..models.families import architecture_of
from ..models.load import load_config
from ..models.low_rank_layers import factored_ranks
from ..models.shapes import Shape, shape_of
from ..models.weight_headers import check_weights
from ..student.layer_copy import copy_problems
from ..student.shape import default_config, shape_problems, shape_warnings, student_config
from ..token_ids import TokenIds
from ..tokenization.load import load_tokenizer
from .schema import CopyPart, StudentPart, TeacherPart
from .sides import Models, padding_problems, same_tokens

_SPECIAL = ("cls_token", "sep_token", "pad_token")
_SPECIAL_OF_DECODERS = ("eos_token",)
_SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
_BESIDE_A_MODEL = ("model", "low_rank", "other_normalisation")

Found = tuple[Models | None, list[Problem], list[str]]


class _Teacher(NamedTuple):
    """A recipe's teacher; of nothing where it has none, or where that one cannot be had."""

    config: Any = None
    architecture: Architecture | None = None
    shape: Shape | None = None
    tokenizer: PreTrainedTokenizerFast | None = None

    @property
    def family(self) -> str | None:
        """Its model type."""
        return self.config.model_type if self.config else None


def describe_models(teacher: TeacherPart | None, student: StudentPart) -> Found:
    """Shapes and configurations of both models, or None; all their problems; warnings."""
    known, problems, warnings = _described_teacher(teacher)
    if student.model:
        models, found, more = _of_its_own(known, student, student.model)
    else:
        models, found, more = _of_sizes(teacher, known, student)
    problems += found
    return (None if problems else models), problems, [*warnings, *more]


def _described_teacher(part: TeacherPart | None) -> tuple[_Teacher, list[Problem], list[str]]:
    if part is None:
        return _Teacher(), [], []
    try:
        config = load_config(part.model)
        architecture = part.architecture or architecture_of(config.model_type)
        tokenizer = load_tokenizer(part.model)
        shape = shape_of(config, architecture).of_tokens(TokenIds.of(tokenizer))
        problem, note = check_weights(part.model, architecture=architecture)
        problems = _beyond_the_table(shape, "teacher.model")
        problems += [("teacher.model", problem)] if problem else []
        return _Teacher(config, architecture, shape, tokenizer), problems, [note] if note else []
    except LimbeckError as error:
        return _Teacher(), [("teacher.model", str(error))], []


def _of_its_own(known: _Teacher, student: StudentPart, name: str) -> Found:
    """A student that was trained before: its sizes, tokens and weights are its own."""
    defaults = StudentPart()
    problems: list[Problem] = [
        (f"student.{key}", "is the model's own (`student.model`); leave it out")
        for key, field in StudentPart.model_fields.items()
        if key not in _BESIDE_A_MODEL and getattr(student, key) != getattr(defaults, key)
    ]
    try:
        config = load_config(name)
        same_family = known.architecture is not None and config.model_type == known.family
        architecture = (
            known.architecture
            if same_family and known.architecture
            else architecture_of(config.model_type)
        )
        tokenizer = load_tokenizer(name)
        shape = shape_of(config, architecture).of_tokens(TokenIds.of(tokenizer))
        problem, note = check_weights(name, architecture=architecture, head_in_part=False)
    except LimbeckError as error:
        return None, [*problems, ("student.model", str(error))], []
    problems += [("student.model", problem)] if problem else []
    config.dtype = "float32"  # whatever its weights are kept in
    if factored_ranks(config):
        message = f"{name!r} is in two factors; export it dense (`low_rank: {{export: dense}}`)"
        problems.append(("student.model", message))
    problems += _beyond_the_table(shape, "student.model")
    problems += _special_problems(architecture, tokenizer, "student.model", name)
    warnings = [note] if note else []
    if known.shape:
        problems += _disagreements(shape, known.shape, "student.model")
        warnings += shape_warnings(shape, known.shape)
    models = Models(
        architecture,
        config,
        shape,
        known.architecture,
        known.shape,
        known.config,
        tokenizer,
        known.tokenizer,
        copied_layers=None,
    )
    return models, problems, warnings


def _of_sizes(teacher: TeacherPart | None, known: _Teacher, student: StudentPart) -> Found:
    """A student of sizes that the recipe gives, or takes from the teacher."""
    teacher_config, teacher_architecture, teacher_shape, teacher_tokenizer = known
    problems: list[Problem] = []
    tokenizer = teacher_tokenizer
    tokenizer_name = student.tokenizer or (teacher.model if teacher else "")
    if not tokenizer_name:
        problems.append(("student.tokenizer", "is missing; without a teacher one must be named"))
    elif student.tokenizer:
        try:
            tokenizer = load_tokenizer(student.tokenizer)
        except LimbeckError as error:
            tokenizer = None
            problems.append(("student.tokenizer", str(error)))
    model_type = student.model_type or known.family
    if model_type is None and not teacher:
        problems.append(("student.model_type", "is missing; without a teacher name one, as bert"))
    architecture = None
    if model_type and teacher_config and model_type == known.family:
        architecture = teacher_architecture
    elif model_type:
        try:
            architecture = architecture_of(model_type)
        except LimbeckError as error:
            problems.append(("student.model_type", str(error)))
    if (
        tokenizer is None
        or model_type is None
        or architecture is None
        or (teacher and teacher_config is None)
    ):
        return None, problems, []
    same_family = teacher_config is not None and model_type == known.family
    like = (
        teacher_config
        if same_family
        else default_config(model_type, tokenizer_ids=_token_ids(tokenizer))
    )
    alike = teacher_tokenizer is None or same_tokens(teacher_tokenizer, tokenizer)
    ids = TokenIds.of(tokenizer)
    vocabulary = ids.end
    if teacher_shape and alike:
        vocabulary = max(teacher_shape.vocab_size, vocabulary)
    sizes = {name: getattr(student, name) for name in _SIZES}
    if teacher_shape:
        sizes = {
            name: getattr(teacher_shape, name) if size is None else size
            for name, size in sizes.items()
        }
    if missing := [name for name, size in sizes.items() if size is None]:
        message = "is missing; without a teacher every size must be given"
        return None, [*problems, *((f"student.{name}", message) for name in missing)], []
    shape = Shape(
        **sizes,
        vocab_size=student.vocab_size or vocabulary,
        max_position_embeddings=student.max_position_embeddings
        or shape_of(like, architecture).max_position_embeddings,
        num_key_value_heads=_key_value_heads(student, shape_of(like, architecture)),
        head_dim=_head_size(sizes, teacher_shape if same_family else None),
        causal=architecture.causal,
        tokens=len(ids),
        absent=ids.absent,
    )
    if teacher_shape:
        problems += _disagreements(shape, teacher_shape, "student.model_type")
    problems += _special_problems(architecture, tokenizer, "student.tokenizer", tokenizer_name)
    problems += [
        (f"student.{name}", message)
        for name, message in shape_problems(shape, rotary=architecture.rotary)
    ]
    copied = None
    if student.init_from_teacher and same_family:
        problems += padding_problems(architecture, teacher_tokenizer, tokenizer)
    if student.init_from_teacher:
        if teacher_shape is None or not same_family:
            message = "needs a teacher of the student's model_type; use `init_from_teacher: null`"
            problems.append(("student.init_from_teacher", message))
        elif factored_ranks(teacher_config):
            message = "cannot take layers that are in two factors; name a teacher that was exported"
            problems.append(
                ("student.init_from_teacher", f"{message} dense, or use `init_from_teacher: null`")
            )
        else:
            copied = _copied_layers(
                student.init_from_teacher, shape.num_hidden_layers, teacher_shape.num_hidden_layers
            )
            problems += [
                ("student.init_from_teacher.layers", message)
                for message in copy_problems(
                    shape, teacher_shape, copied, rotary=architecture.rotary
                )
            ]
    if problems:
        return None, problems, []
    config = student_config(like, architecture, shape, copied_layers=copied)
    if not alike:
        for name, number in _token_ids(tokenizer).items():
            setattr(config, name, number)
    warnings = shape_warnings(shape, teacher_shape) if teacher_shape else []
    models = Models(
        architecture,
        config,
        shape,
        teacher_architecture,
        teacher_shape,
        teacher_config,
        tokenizer,
        teacher_tokenizer,
        copied,
    )
    return models, problems, warnings


def _beyond_the_table(shape: Shape, field: str) -> list[Problem]:
    ids = shape.token_ids
    if ids.end <= shape.vocab_size:
        return []
    message = f"has {shape.vocab_size} embeddings, and its tokenizer {len(ids)} tokens with ids up"
    return [(field, f"{message} to {ids.end - 1}; save both as they were trained together")]


def _token_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _key_value_heads(student: StudentPart, like: Shape) -> int | None:
    """As given, or as many query heads for each as the teacher's or the family's."""
    if student.num_key_value_heads or not like.num_key_value_heads:
        return student.num_key_value_heads
    shared, heads = (
        like.num_attention_heads // like.num_key_value_heads,
        student.num_attention_heads or like.num_attention_heads,
    )
    return heads // shared if heads % shared == 0 else heads


def _head_size(sizes: Mapping[str, int], teacher: Shape | None) -> int | None:
    """The teacher's, where it is not hidden / heads and the student has both alike."""
    alike = teacher and (sizes["hidden_size"], sizes["num_attention_heads"]) == (
        teacher.hidden_size,
        teacher.num_attention_heads,
    )
    return teacher.head_dim if teacher and alike else None


def _special_problems(
    architecture: Architecture, tokenizer: PreTrainedTokenizerFast, field: str, name: str
) -> list[Problem]:
    special = _SPECIAL_OF_DECODERS if architecture.causal else _SPECIAL
    lacks = [token for token in special if tokenizer.special_tokens_map.get(token) is None]
    return [(field, f"{name} has no {', '.join(lacks)}; add them")] if lacks else []


def _disagreements(student: Shape, teacher: Shape, field: str) -> list[Problem]:
    if student.causal == teacher.causal:
        return []
    kinds = {True: "a decoder", False: "an encoder"}
    message = f"is {kinds[student.causal]}, but the teacher is {kinds[teacher.causal]}; give"
    return [(field, f"{message} the same kind")]


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
