"""Both models of a recipe, described before a weight is loaded; every fault is found on the way."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerFast

from ..errors import Fault, LimbeckError
from ..models.anatomy import Anatomy
from ..models.families import anatomy_of
from ..models.load import load_config
from ..models.low_rank_layers import factored_ranks
from ..models.shapes import Shape, shape_of
from ..models.weight_headers import check_weights
from ..student.layer_copy import copy_faults
from ..student.shape import default_config, shape_faults, shape_warnings, student_config
from ..token_ids import TokenIds
from ..tokenization.load import load_tokenizer
from .schema import CopyPart, StudentPart, TeacherPart
from .sides import Models, padding_faults, same_pieces

_SPECIAL = ("cls_token", "sep_token", "pad_token")
_SPECIAL_OF_DECODERS = ("eos_token",)
_SIZES = ("layers", "hidden", "heads", "intermediate")
_BESIDE_A_MODEL = ("model", "low_rank", "other_normalisation")

Found = tuple[Models | None, list[Fault], list[str]]


class _Teacher(NamedTuple):
    """A recipe's teacher; of nothing where it has none, or where that one cannot be had."""

    config: Any = None
    anatomy: Anatomy | None = None
    shape: Shape | None = None
    tokenizer: PreTrainedTokenizerFast | None = None

    @property
    def family(self) -> str | None:
        """Its model type."""
        return self.config.model_type if self.config else None


def describe_models(teacher: TeacherPart | None, student: StudentPart) -> Found:
    """Shapes and configurations of both models, or None; all their faults; warnings."""
    known, faults, warnings = _described_teacher(teacher)
    if student.model:
        models, found, more = _of_its_own(known, student, student.model)
    else:
        models, found, more = _of_sizes(teacher, known, student)
    faults += found
    return (None if faults else models), faults, [*warnings, *more]


def _described_teacher(part: TeacherPart | None) -> tuple[_Teacher, list[Fault], list[str]]:
    if part is None:
        return _Teacher(), [], []
    try:
        config = load_config(part.model)
        anatomy = part.anatomy or anatomy_of(config.model_type)
        tokenizer = load_tokenizer(part.model)
        shape = shape_of(config, anatomy).of_tokens(TokenIds.of(tokenizer))
        problem, note = check_weights(part.model, anatomy=anatomy)
        faults = _beyond_the_table(shape, "teacher.model")
        faults += [("teacher.model", problem)] if problem else []
        return _Teacher(config, anatomy, shape, tokenizer), faults, [note] if note else []
    except LimbeckError as error:
        return _Teacher(), [("teacher.model", str(error))], []


def _of_its_own(known: _Teacher, student: StudentPart, name: str) -> Found:
    """A student that was trained before: its sizes, pieces and weights are its own."""
    defaults = StudentPart()
    faults: list[Fault] = [
        (f"student.{field.alias or key}", "is the model's own (`student.model`); leave it out")
        for key, field in StudentPart.model_fields.items()
        if key not in _BESIDE_A_MODEL and getattr(student, key) != getattr(defaults, key)
    ]
    try:
        config = load_config(name)
        same_family = known.anatomy is not None and config.model_type == known.family
        anatomy = known.anatomy if same_family and known.anatomy else anatomy_of(config.model_type)
        tokenizer = load_tokenizer(name)
        shape = shape_of(config, anatomy).of_tokens(TokenIds.of(tokenizer))
        problem, note = check_weights(name, anatomy=anatomy, head_in_part=False)
    except LimbeckError as error:
        return None, [*faults, ("student.model", str(error))], []
    faults += [("student.model", problem)] if problem else []
    config.dtype = "float32"  # whatever its weights are kept in
    if factored_ranks(config):
        message = f"{name!r} is in two factors; export it dense (`low_rank: {{export: dense}}`)"
        faults.append(("student.model", message))
    faults += _beyond_the_table(shape, "student.model")
    faults += _special_faults(anatomy, tokenizer, "student.model", name)
    warnings = [note] if note else []
    if known.shape:
        faults += _disagreements(shape, known.shape, "student.model")
        warnings += shape_warnings(shape, known.shape)
    models = Models(
        anatomy,
        config,
        shape,
        known.anatomy,
        known.shape,
        known.config,
        tokenizer,
        known.tokenizer,
        copied_layers=None,
    )
    return models, faults, warnings


def _of_sizes(teacher: TeacherPart | None, known: _Teacher, student: StudentPart) -> Found:
    """A student of sizes that the recipe gives, or takes from the teacher."""
    teacher_config, teacher_anatomy, teacher_shape, teacher_tokenizer = known
    faults: list[Fault] = []
    tokenizer = teacher_tokenizer
    tokenizer_name = student.tokenizer or (teacher.model if teacher else "")
    if not tokenizer_name:
        faults.append(("student.tokenizer", "is missing; without a teacher one must be named"))
    elif student.tokenizer:
        try:
            tokenizer = load_tokenizer(student.tokenizer)
        except LimbeckError as error:
            tokenizer = None
            faults.append(("student.tokenizer", str(error)))
    architecture = student.architecture or known.family
    if architecture is None and not teacher:
        faults.append(("student.architecture", "is missing; without a teacher name one, as bert"))
    anatomy = None
    if architecture and teacher_config and architecture == known.family:
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
    same_family = teacher_config is not None and architecture == known.family
    like = (
        teacher_config
        if same_family
        else default_config(architecture, tokenizer_ids=_token_ids(tokenizer))
    )
    alike = teacher_tokenizer is None or same_pieces(teacher_tokenizer, tokenizer)
    ids = TokenIds.of(tokenizer)
    vocabulary = ids.end
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
        pieces=len(ids),
        absent=ids.absent,
    )
    if teacher_shape:
        faults += _disagreements(shape, teacher_shape, "student.architecture")
    faults += _special_faults(anatomy, tokenizer, "student.tokenizer", tokenizer_name)
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
        teacher_tokenizer,
        copied,
    )
    return models, faults, warnings


def _beyond_the_table(shape: Shape, field: str) -> list[Fault]:
    ids = shape.token_ids
    if ids.end <= shape.vocabulary:
        return []
    message = f"has {shape.vocabulary} embeddings, and its tokenizer {len(ids)} pieces with ids up"
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
    if student.key_value_heads or not like.key_value_heads:
        return student.key_value_heads
    shared, heads = like.heads // like.key_value_heads, student.heads or like.heads
    return heads // shared if heads % shared == 0 else heads


def _head_size(sizes: Mapping[str, int], teacher: Shape | None) -> int | None:
    """The teacher's, where it is not hidden / heads and the student has both alike."""
    alike = teacher and (sizes["hidden"], sizes["heads"]) == (teacher.hidden, teacher.heads)
    return teacher.head_size if teacher and alike else None


def _special_faults(
    anatomy: Anatomy, tokenizer: PreTrainedTokenizerFast, field: str, name: str
) -> list[Fault]:
    special = _SPECIAL_OF_DECODERS if anatomy.causal else _SPECIAL
    lacks = [token for token in special if tokenizer.special_tokens_map.get(token) is None]
    return [(field, f"{name} has no {', '.join(lacks)}; add them")] if lacks else []


def _disagreements(student: Shape, teacher: Shape, field: str) -> list[Fault]:
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
