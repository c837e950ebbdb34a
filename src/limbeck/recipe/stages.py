"""The stages of a recipe as the loop takes them, with every problem found on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import Problem
from ..objectives.catalogue import objective_of
from ..objectives.contract import Objective
from ..objectives.labels import Labels
from ..tokenization.masking import Masking, NextToken
from ..training.stage import Stage
from .parse import ParsedStage
from .prompts import stage_policy
from .schema import DataPart
from .sides import Models, padding_problems
from .stage_part import StagePart
from .stage_problems import (
    decoder_problems,
    head_problems,
    mask_problems,
    optimizer_problems,
    rounding_problems,
)
from .stage_rows import rows_of_stage, rows_problems
from .task_rows import TaskRows
from .tokenizers import alignment_problems, comparison_problems

_HEADS = ("classif", "summary", "qa_", "pooler")  # whose dropout the layers do not have


@dataclass(frozen=True)
class BuiltStage:
    """A stage as the loop takes it, and what hides tokens in it."""

    stage: Stage
    masking: Masking | NextToken | None


Built = tuple[BuiltStage | None, list[Problem]]


def build_stages(
    parsed: Sequence[ParsedStage], models: Models, data: DataPart, rows: TaskRows | None = None
) -> tuple[list[BuiltStage], list[Problem]]:
    """The stages that can be carried out, and all that is wrong with the others.

    Args:
        parsed: As far as they can be read.
        models: Of the recipe.
        data: Of the recipe.
        rows: Of the recipe's task.
    """
    built: list[BuiltStage] = []
    problems: list[Problem] = []
    for number, stage in enumerate(parsed):
        if stage.part is None:
            continue
        # A stage after a mixed one finds a teacher that reads the student's tokens.
        known = models.after_mixed() if any(b.stage.mixed is not None for b in built) else models
        if stage.part.mixed is None:
            made, found = _build_stage(stage, stage.part, number, known, data, rows)
        else:
            made, found = _build_mixed_stage(stage.part, number, known, data)
        problems += [problem for problem in found if problem not in problems]
        if made:
            built.append(made)
    return built, problems


def _build_stage(
    parsed: ParsedStage,
    part: StagePart,
    number: int,
    models: Models,
    data: DataPart,
    rows: TaskRows | None,
) -> Built:
    """A stage with its objectives bound to both models."""
    problems = alignment_problems(part, number, models, data)
    compared = models.aligned(part.alignment) if part.alignment and not problems else models
    bound, found = _bound_objectives(parsed, number, models, compared)
    problems += found
    problems += _alignment_problems(part, number, bound, models)
    of_rows = rows_of_stage(bound, rows, data)
    problems += rows_problems(part, number, bound, models, rows=of_rows)
    problems += _size_problems(part, number, data, bound)
    if part.trainable == "head":
        problems += head_problems(bound, number, models)
    problems += rounding_problems(part, number, models) + optimizer_problems(part, number)
    policy, found = stage_policy(part, parsed.policy, number, models, data)
    problems += found
    problems += decoder_problems(part, number, models, data)
    if problems or not parsed.whole:
        return None, problems
    stage = Stage(
        name=part.name or "+".join(bound),
        objectives=bound,
        weights={name: parsed.objectives[name].weight for name in bound},
        trainable=part.trainable,
        alignment=part.alignment is not None,
        policy=policy,
        projections=part.projection_init,
        rows=of_rows is not None,
        rounding=part.quantization_aware,
        **_course(part, data, of_rows),
    )
    predicts = stage.student_needs().predictions or stage.teacher_needs().predictions
    if models.student.architecture.causal:
        return BuiltStage(stage, NextToken() if predicts else None), []
    masking = part.masking or (Masking() if predicts else None)
    both = part.alignment is not None and part.alignment.teacher_input == "masked"
    if masking and (problems := mask_problems(models, number, both=both)):
        return None, problems
    return BuiltStage(stage, masking), []


def _bound_objectives(
    parsed: ParsedStage, number: int, models: Models, compared: Models
) -> tuple[dict[str, Objective], list[Problem]]:
    """Objectives that know both models, and what is wrong with the others.

    Args:
        parsed: The stage.
        number: Its place among the stages.
        models: Of the recipe.
        compared: The same over the tokens that are compared.
    """
    bound: dict[str, Objective] = {}
    problems: list[Problem] = []
    for name, given in parsed.objectives.items():
        objective = objective_of(given.kind, given.options)
        student, teacher = compared.shapes
        if isinstance(objective, Labels):
            student = models.student.shape  # labels are of its own tokens, whatever is compared
        place = f"stages.{number}.objectives.{name}"
        wrong = objective.problems_with(student, teacher)
        problems += [(f"{place}.{field}" if field else place, said) for field, said in wrong]
        if not wrong:
            bound[name] = objective.bound(student, teacher)
    return bound, problems


def _alignment_problems(
    part: StagePart, number: int, bound: Mapping[str, Objective], models: Models
) -> list[Problem]:
    """Objectives that compare what the stage's alignment, or the lack of one, cannot."""
    # Classes are matched by name, and vectors are of whole texts, whatever the tokens are.
    needs = {name: objective.teacher_needs() for name, objective in bound.items()}
    if part.alignment is None:
        compares = any(need.of_tokens for need in needs.values())
        return comparison_problems(models, f"stages.{number}.objectives") if compares else []
    if part.alignment.kind == "boundaries":
        return []
    message = "needs `alignment: boundaries`, and decoders; leave it out"
    return [
        (f"stages.{number}.objectives.{name}", message)
        for name, need in needs.items()
        if need.likelihoods
    ]


def _build_mixed_stage(part: StagePart, number: int, models: Models, data: DataPart) -> Built:
    """Stage I of mixed-vocabulary training."""
    place = f"stages.{number}"
    share = part.mixed.student_fraction if part.mixed else 0.5
    needed = [
        (number == 0, f"{place}.mixed", "can only be the first stage"),
        (models.teacher is not None, "teacher", "is missing; a mixed stage trains a copy of it"),
        (
            models.teacher is None or models.two_vocabularies,
            "student.tokenizer",
            "is the teacher's own; learn another (limbeck vocabulary learn) and name it",
        ),
        (
            not models.student.architecture.causal,
            "student.model_type",
            "is a decoder; a mixed stage hides words, which only encoders fill in",
        ),
        (part.trainable == "all", f"{place}.trainable", "must be all in a mixed stage"),
        (
            part.quantization_aware is None,
            f"{place}.quantization_aware",
            "has no place in a mixed stage; its student is trained in the next one",
        ),
        (part.alignment is None, f"{place}.alignment", "has no place in a mixed stage"),
        (part.policy is None, f"{place}.policy", "has no place in a mixed stage"),
        (
            models.student.head is None,
            f"{place}.mixed",
            "cannot stand beside the rows of a task (data.task); continue with its student in a"
            " recipe of its own",
        ),
        (bool(data.text), "data.text", "is missing; a mixed stage reads text"),
        (data.packing, "data.packing", "must be true with a mixed stage"),
    ]
    problems = [(field, message) for met, field, message in needed if not met]
    if models.teacher is not None:
        theirs = models.teacher.tokenizer
        problems += padding_problems(models.teacher.architecture, theirs, models.student.tokenizer)
    problems += _size_problems(part, number, data, {}) + mask_problems(models, number, both=True)
    if problems:
        return None, problems
    stage = Stage(
        name=part.name or "mixed",
        objectives={"labels": Labels()},
        weights={"labels": 1.0},
        mixed=share,
        **_course(part, data),
    )
    return BuiltStage(stage, part.masking or Masking()), []


def _size_problems(
    part: StagePart, number: int, data: DataPart, bound: Mapping[str, Objective]
) -> list[Problem]:
    problems: list[Problem] = []
    if part.tokens is not None and not data.packing:
        problems.append(("tokens", "needs `data.packing`; unpacked, give max_steps"))
    if part.micro_batch_size and part.micro_batch_size > part.batch_size:
        problems.append(("micro_batch_size", f"is above batch_size={part.batch_size}"))
    for name, objective in bound.items():
        group = objective.rows_together()
        message = f"and {name} compares {group} rows with one another; give a multiple of {group}"
        for field in ("batch_size", "micro_batch_size"):
            if (size := getattr(part, field)) and size % group:
                problems.append((field, f"is {size}, {message}"))
    return [(f"stages.{number}.{field}", said) for field, said in problems]


def _course(part: StagePart, data: DataPart, rows: TaskRows | None = None) -> dict[str, Any]:
    """How long a stage is, how it is split and how fast it learns."""
    epochs = part.num_train_epochs
    steps = steps_of_tokens(part.tokens or 0, part.batch_size, data.max_length)
    if rows and epochs:
        steps = max(1, round(epochs * len(rows.train) / part.batch_size))
    return {
        "steps": part.max_steps or steps,
        "batch_size": part.batch_size,
        "micro_batch_size": part.micro_batch_size or part.batch_size,
        "optimizer": part.optimizer,
        "dropout": part.dropout,
    }


def steps_of_tokens(tokens: int, batch_size: int, length: int) -> int:
    """Steps that see at least that many tokens, with full sequences.

    >>> steps_of_tokens(5_000_000, 32, 128)
    1221
    """
    return max(1, -(-tokens // (batch_size * length)))


def dropout_warnings(models: Models, stages: Sequence[Stage]) -> list[str]:
    """Stages with `dropout` whose student has none to train with."""
    said = models.student.config.to_dict()
    rates = {name: rate for name, rate in said.items() if "drop" in name}
    if any(rate for name, rate in rates.items() if not any(head in name for head in _HEADS)):
        return []
    return [
        f"stages.{number}.dropout: the student's configuration has no dropout above 0"
        f" ({', '.join(rates) or 'it names none'}), so the stage learns without; leave it out, or"
        " give a student model whose configuration has some"
        for number, stage in enumerate(stages)
        if stage.dropout
    ]
