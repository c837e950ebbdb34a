"""Both models of a recipe before a weight is loaded, and everything that is wrong with them."""

from dataclasses import replace
from itertools import pairwise

from transformers import PreTrainedTokenizerFast

from ..errors import LimbeckError, Problem
from ..evaluation.text_generator import with_end
from ..models.architecture import Architecture
from ..models.families.lookup import architecture_of, architecture_of_type
from ..models.load import load_config
from ..models.low_rank_layers import low_rank_ranks
from ..models.quantized import quantization_missing
from ..models.sentences.load import chain_of
from ..models.shapes import Shape, shape_of
from ..models.weight_headers import check_weights
from ..student.copied_sizes import size_problem
from ..student.layer_copy import copy_problems
from ..student.shape import default_config, shape_problems, shape_warnings, student_config
from ..tokenization.load import load_tokenizer
from .models_part import CopyPart, StudentPart, TeacherPart
from .own_shape import own_shape
from .sides import Models, ModelSide, padding_problems, same_tokens, special_problems

_BESIDE_A_MODEL = ("model", "low_rank", "allow_normalizer_mismatch")

Found = tuple[Models | None, list[Problem], list[str]]


def describe_models(teacher: TeacherPart | None, student: StudentPart) -> Found:
    """Both models before a weight is loaded, or None; all their problems; warnings."""
    theirs, problems, warnings = _described_teacher(teacher)
    if student.model:
        models, found, more = _of_its_own(theirs, student, student.model)
    else:
        models, found, more = _of_sizes(teacher, theirs, student)
    problems += found
    return (None if problems else models), problems, [*warnings, *more]


def _described_teacher(
    part: TeacherPart | None,
) -> tuple[ModelSide | None, list[Problem], list[str]]:
    if part is None:
        return None, [], []
    try:
        config = load_config(part.model, weights=part.server is None)
        architecture = part.architecture or architecture_of(config)
        tokenizer = _tokenizer_of(part.model, architecture)
        side = ModelSide.of(part.model, config, architecture, tokenizer)
        problem, note = None, None
        if part.server is None:  # else its weights are on the server
            problem, note = check_weights(part.model, architecture=architecture)
        problems = _beyond_the_table(side.shape, "teacher.model")
        problems += [("teacher.model", problem)] if problem else []
        if part.quantize == "int8" and (missing := quantization_missing()):
            problems.append(("teacher.quantize", missing))
        chain = chain_of(part.model)
        notes = [note, chain and chain.note(part.model)]
        return side, problems, [said for said in notes if said]
    except LimbeckError as error:
        return None, [("teacher.model", str(error))], []


def _of_its_own(teacher: ModelSide | None, student: StudentPart, name: str) -> Found:
    """A student that was trained before: its sizes, tokens and weights are its own."""
    defaults = StudentPart()
    problems: list[Problem] = [
        (f"student.{key}", "is the model's own (`student.model`); leave it out")
        for key in StudentPart.model_fields
        if key not in _BESIDE_A_MODEL and getattr(student, key) != getattr(defaults, key)
    ]
    try:
        config = load_config(name)
        if teacher and config.model_type == teacher.config.model_type:
            architecture = teacher.architecture
        else:
            architecture = architecture_of(config)
        tokenizer = _tokenizer_of(name, architecture)
        side = ModelSide.of(name, config, architecture, tokenizer)
        problem, note = check_weights(name, architecture=architecture, head_in_part=False)
    except LimbeckError as error:
        return None, [*problems, ("student.model", str(error))], []
    problems += [("student.model", problem)] if problem else []
    config.dtype = "float32"  # whatever its weights are kept in
    if low_rank_ranks(config):
        message = f"{name!r} has low-rank layers; export it dense (`low_rank: {{export: dense}}`)"
        problems.append(("student.model", message))
    problems += _beyond_the_table(side.shape, "student.model")
    problems += special_problems(architecture, tokenizer, "student.model", name)
    warnings = [note] if note else []
    if teacher:
        problems += _disagreements(side.shape, teacher.shape, "student.model")
        warnings += shape_warnings(side.shape, teacher.shape)
    return Models(side, teacher), problems, warnings


def _of_sizes(part: TeacherPart | None, teacher: ModelSide | None, student: StudentPart) -> Found:
    """A student of sizes that the recipe gives, or takes from the teacher."""
    tokenizer, problems = _own_tokenizer(part, teacher, student)
    family, found = _own_family(part, teacher, student)
    problems += found
    if tokenizer is None or family is None or (part and teacher is None):
        return None, problems, []
    model_type, architecture = family
    # Of the same family, whose weights may be copied.
    relative = teacher if teacher and model_type == teacher.config.model_type else None
    ids = _special_ids(tokenizer)
    config = relative.config if relative else default_config(model_type, tokenizer_ids=ids)
    like = shape_of(config, architecture)
    shape, found = own_shape(student, teacher, relative, like, architecture, tokenizer)
    if shape is None:
        return None, [*problems, *found], []
    if teacher:
        problems += _disagreements(shape, teacher.shape, "student.model_type")
    name = student.tokenizer or (part.model if part else "")
    problems += special_problems(architecture, tokenizer, "student.tokenizer", name)
    problems += [
        (f"student.{name}", message)
        for name, message in shape_problems(shape, architecture, config)
    ]
    side = ModelSide("", config, shape, architecture, tokenizer)
    copied, found = _copied(student.init_from_teacher, side, teacher, relative)
    problems += found
    if problems:
        return None, problems, []
    config = student_config(config, architecture, shape, copied_layers=copied)
    theirs = relative.config if relative else None
    if problem := size_problem(config, architecture, teacher=theirs, layers=copied):
        return None, [problem], []
    if teacher and not same_tokens(teacher.tokenizer, tokenizer):
        for name, number in ids.items():
            setattr(config, name, number)
    warnings = shape_warnings(shape, teacher.shape) if teacher else []
    return Models(replace(side, config=config), teacher, copied), [], warnings


def _tokenizer_of(name: str, architecture: Architecture) -> PreTrainedTokenizerFast:
    """The tokenizer of a model; where it names no end of a text, that of the model's files is."""
    tokenizer = load_tokenizer(name)
    if architecture.causal and tokenizer.eos_token_id is None:
        with_end(tokenizer, name)
    return tokenizer


def _own_tokenizer(
    part: TeacherPart | None, teacher: ModelSide | None, student: StudentPart
) -> tuple[PreTrainedTokenizerFast | None, list[Problem]]:
    """The tokenizer that the student names, or the teacher's."""
    if student.tokenizer:
        try:
            return load_tokenizer(student.tokenizer), []
        except LimbeckError as error:
            return None, [("student.tokenizer", str(error))]
    if part is None:
        return None, [("student.tokenizer", "is missing; without a teacher one must be named")]
    return teacher.tokenizer if teacher else None, []


def _own_family(
    part: TeacherPart | None, teacher: ModelSide | None, student: StudentPart
) -> tuple[tuple[str, Architecture] | None, list[Problem]]:
    """The student's model type and where its parts are."""
    if teacher and student.model_type in (None, teacher.config.model_type):
        return (teacher.config.model_type, teacher.architecture), []
    if student.model_type is None:
        message = "is missing; without a teacher name one, as bert"
        return None, [] if part else [("student.model_type", message)]
    try:
        return (student.model_type, architecture_of_type(student.model_type)), []
    except LimbeckError as error:
        return None, [("student.model_type", str(error))]


def _copied(
    part: CopyPart | None, student: ModelSide, teacher: ModelSide | None, relative: ModelSide | None
) -> tuple[list[list[int]] | None, list[Problem]]:
    """Teacher layers that each student layer starts from, and why it cannot."""
    if part is None:
        return None, []
    field = "student.init_from_teacher"
    if relative is None:
        message = "needs a teacher of the student's model_type; use `init_from_teacher: null`"
        return None, [(field, message)]
    if low_rank_ranks(relative.config):
        message = "cannot take low-rank layers; name a teacher that was exported dense, or use"
        return None, [(field, f"{message} `init_from_teacher: null`")]
    rotary = student.architecture.rotary
    copied = _copied_layers(part, student.shape.num_hidden_layers, relative.shape.num_hidden_layers)
    problems = padding_problems(student.architecture, relative.tokenizer, student.tokenizer)
    problems += [
        (f"{field}.layers", message)
        for message in copy_problems(student.shape, relative.shape, copied, rotary=rotary)
    ]
    return copied, problems


def _beyond_the_table(shape: Shape, field: str) -> list[Problem]:
    ids = shape.token_ids
    if ids.end <= shape.vocab_size:
        return []
    message = f"has {shape.vocab_size} embeddings, and its tokenizer {len(ids)} tokens with ids up"
    return [(field, f"{message} to {ids.end - 1}; save both as they were trained together")]


def _special_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


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
