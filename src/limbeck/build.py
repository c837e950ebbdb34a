"""From a recipe to the plain objects that the rooms take, with every fault found on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from .data.text import check_source
from .errors import LimbeckError, RecipeError
from .evaluation.tasks import load_task
from .faults import Fault
from .lowered import factor_stage_faults, low_rank_faults
from .methods import with_method
from .models import Models, describe_models
from .objectives.contract import Objective
from .objectives.labels import Labels
from .objectives.schedule import Ramp
from .parse import parse_objective, parse_recipe, stage_objectives
from .pretrained import has_vocabulary_head, locate, model_of_run, no_head
from .prompted import parse_policy, policy_faults, prompt_faults, stage_reads_prompts
from .recipe import (
    DataPart,
    EvaluationPart,
    Recipe,
    StagePart,
    StudentPart,
    TeacherPart,
)
from .tokenization.masking import Masking, NextPiece
from .training.stages import Stage
from .two_vocabularies import (
    alignment_faults,
    comparison_faults,
    first_weight_faults,
    normalisation_warnings,
    writing_faults,
)

_Part = TypeVar("_Part", bound=BaseModel)


@dataclass(frozen=True)
class Setup:
    """A checked recipe, and what follows from it."""

    recipe: Recipe
    models: Models
    stages: list[Stage]
    maskings: list[Masking | NextPiece | None]
    warnings: list[str]

    @property
    def has_trained_head(self) -> bool:
        """Whether some stage trains the student's vocabulary head."""
        return any(s.student_needs().predictions for s in self.stages if s.mixed is None)


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
    raw, unknown = with_method(raw)
    recipe, faults = parse_recipe(raw)
    faults += unknown
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
        models, found, warnings = describe_models(teacher_part, student_part)
        faults += found
    if models and data and data.length > models.student.positions:
        limit = models.student.positions
        faults.append(("data.length", f"is {data.length}, but the student reads {limit} at most"))
    stages: list[Stage | None] = []
    maskings = []
    mixed = False
    for number, stage_raw in enumerate(raw.get("stages") or []):
        part = _part(StagePart, stage_raw)
        if part and models and data:
            make = _stage if part.mixed is None else _mixed_stage
            known = models.after_mixed() if mixed else models
            stage, masking, found = make(part, number, known, data)
            faults += [fault for fault in found if fault not in faults]
            mixed = mixed or (stage is not None and stage.mixed is not None)
            stages.append(stage)
            maskings.append(masking)
    if teacher_part and models and models.teacher_anatomy:
        asking = [s.name for s in stages if s and s.asks_logits]
        anatomy = models.teacher_anatomy
        asking = [] if mixed else asking
        if asking and has_vocabulary_head(teacher_part.model, anatomy=anatomy) is False:
            faults.append(("teacher.model", no_head(teacher_part.model)))
    if mixed and len(stages) == 1:
        message = "a mixed stage trains only the student's table; add a stage with `labels`"
        faults.append(("stages", message))
    if models and data and not any(path.startswith("data.text") for path, _ in faults):
        faults += writing_faults(models, data)
    if models and student_part and student_part.low_rank:
        faults += low_rank_faults(models, student_part.low_rank, mixed=mixed)
    if models and student_part:
        faults += first_weight_faults(models, student_part, mixed=mixed)
    if recipe is not None:
        faults += factor_stage_faults(recipe.stages, recipe.student.low_rank)
    if recipe is None or models is None or faults:
        return None, faults
    warnings += normalisation_warnings(models, recipe.student, recipe.data)
    return Setup(recipe, models, [s for s in stages if s], maskings, warnings), []


def _part(kind: type[_Part], value: Any) -> _Part | None:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


def _data_faults(data: DataPart) -> list[Fault]:
    faults = prompt_faults(data)
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
    if evaluation.no_distillation:
        try:
            locate(model_of_run(evaluation.no_distillation))
        except LimbeckError as error:
            faults.append(("evaluation.no_distillation", str(error)))
    return faults


def _stage(
    part: StagePart, number: int, models: Models, data: DataPart
) -> tuple[Stage | None, Masking | NextPiece | None, list[Fault]]:
    faults = alignment_faults(part, number, models, data)
    if part.alignment and not faults:
        models = models.aligned(part.alignment)
    bound: dict[str, Objective] = {}
    weights: dict[str, float | Ramp] = {}
    for name, options in stage_objectives(part.model_dump()).items():
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
    if part.alignment and part.alignment.kind != "ends":
        message = "needs `alignment: ends`, and decoders; leave it out"
        faults += [
            (f"stages.{number}.objectives.{name}", message)
            for name, objective in bound.items()
            if objective.teacher_needs().likelihoods
        ]
    compares = any(objective.teacher_needs().anything for objective in bound.values())
    if compares and not part.alignment:
        faults += comparison_faults(models, f"stages.{number}.objectives")
    faults += _size_faults(part, number, data)
    faults += policy_faults(part, number, models, data)
    if data.apart and (part.alignment or not (data.packed and models.anatomy.causal)):
        message = "is for packed text that decoders read, without an alignment; leave it out"
        faults.append(("data.apart", message))
    if part.masking and models.anatomy.causal:
        message = "hides pieces, which decoders do not learn from; leave it out"
        faults.append((f"stages.{number}.masking", message))
    if faults:
        return None, None, faults
    policy = None
    if stage_reads_prompts(part, data):
        policy, _ = parse_policy(part.policy or {"kind": "corpus"}, ())
    stage = Stage(
        name=part.name or "+".join(bound),
        objectives=bound,
        weights=weights,
        trained=part.trained,
        alignment=part.alignment is not None,
        policy=policy,
        **_course(part, data),
    )
    predicts = stage.student_needs().predictions or stage.teacher_needs().predictions
    if models.anatomy.causal:
        return stage, NextPiece() if predicts else None, []
    return stage, part.masking or (Masking() if predicts else None), []


def _mixed_stage(
    part: StagePart, number: int, models: Models, data: DataPart
) -> tuple[Stage | None, Masking | NextPiece | None, list[Fault]]:
    """Stage I of mixed-vocabulary training."""
    place = f"stages.{number}"
    share = part.mixed.share if part.mixed else 0.5
    ends = (share.start, share.end) if isinstance(share, Ramp) else (share, share)
    needed = [
        (number == 0, f"{place}.mixed", "can only be the first stage"),
        (models.teacher is not None, "teacher", "is missing; a mixed stage trains a copy of it"),
        (
            models.teacher is None or models.two_vocabularies,
            "student.tokenizer",
            "is the teacher's own; learn another (limbeck vocabulary learn) and name it",
        ),
        (
            not models.anatomy.causal,
            "student.architecture",
            "is a decoder; a mixed stage hides words, which only encoders fill in",
        ),
        (
            min(ends) > 0 and max(ends) < 1,
            f"{place}.mixed.share",
            "must stay above 0 and below 1, so that both vocabularies are read",
        ),
        (part.trained == "all", f"{place}.trained", "must be all in a mixed stage"),
        (bool(data.text), "data.text", "is missing; a mixed stage reads text"),
        (data.packed, "data.packed", "must be true with a mixed stage"),
    ]
    faults = [(field, message) for met, field, message in needed if not met]
    faults += _size_faults(part, number, data)
    if faults:
        return None, None, faults
    stage = Stage(
        name=part.name or "mixed",
        objectives={"labels": Labels()},
        weights={"labels": 1.0},
        mixed=share,
        **_course(part, data),
    )
    return stage, part.masking or Masking(), []


def _size_faults(part: StagePart, number: int, data: DataPart) -> list[Fault]:
    faults: list[Fault] = []
    if part.tokens is not None and not data.packed:
        faults.append((f"stages.{number}.tokens", "needs `data.packed`; unpacked, give steps"))
    if part.micro_batch_size and part.micro_batch_size > part.batch_size:
        faults.append(
            (f"stages.{number}.micro_batch_size", f"is above batch_size={part.batch_size}")
        )
    return faults


def _course(part: StagePart, data: DataPart) -> dict[str, Any]:
    """How long a stage is, how it is cut and how fast it learns."""
    return {
        "steps": part.steps or steps_of_tokens(part.tokens or 0, part.batch_size, data.length),
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


def layer_lines(stages: Sequence[Stage]) -> list[tuple[str, str, int, int]]:
    """(stage, objective, student layer, teacher layer) of every pair that learns."""
    return [
        (stage.name, name, student, teacher)
        for stage in stages
        for name, objective in stage.objectives.items()
        for student, teacher in objective.layer_pairs()
    ]
