"""The form of a recipe: every key known, every value possible, every problem found at once.

Unknown keys are refused with the nearest known one. An objective is checked beside the recipe:
its options are the fields of its own class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from ..data.text import ending_of
from ..errors import LimbeckError, Problem, RecipeError, nearest
from ..models.locate import locate
from ..objectives.presets import PRESETS
from .methods import with_method
from .models_part import StudentPart, TeacherPart
from .parse_objective import ParsedObjective, parse_objective
from .parse_policy import PolicyPart, parse_policy
from .part import as_kind, as_model
from .problems import problems_of
from .read import is_study, with_home
from .renamed import with_new_words
from .schema import DataPart, EvaluationPart, Recipe, TrainingPart
from .stage_part import StagePart

_Part = TypeVar("_Part", bound=BaseModel)


@dataclass(frozen=True)
class ParsedStage:
    """A stage as far as it can be read.

    Attributes:
        part: Of the recipe; None where its form is wrong.
        objectives: Those that can be read, its preset's and its own.
        policy: None where there is none, or where it cannot be read.
        whole: Nothing of it is wrong.
    """

    part: StagePart | None
    objectives: dict[str, ParsedObjective]
    policy: PolicyPart | None
    whole: bool


@dataclass(frozen=True)
class Parsed:
    """A recipe as far as it can be read: each part of it is None where its form is wrong.

    Attributes:
        recipe: None where there is any problem.
        has_teacher: Whether it names a teacher, readable or not.
    """

    recipe: Recipe | None
    teacher: TeacherPart | None
    student: StudentPart | None
    data: DataPart | None
    training: TrainingPart | None
    evaluation: EvaluationPart | None
    stages: list[ParsedStage]
    has_teacher: bool


def parse(raw: Mapping[str, Any]) -> tuple[Parsed, list[Problem]]:
    """What of a recipe can be read, and every problem of its form."""
    if is_study(raw):
        message = (
            "is a study (it has `arms`), of several trainings: `limbeck plan` shows them, and"
            " `limbeck compare` carries them out; a recipe is what the study gives as `recipe`"
        )
        return Parsed(None, None, None, None, None, None, [], False), [("recipe", message)]
    raw, problems = with_new_words(with_home(raw))
    raw, found = with_method(raw)
    problems += found
    raw, without_cache = _with_cached_teacher(raw)
    problems += without_cache
    recipe = None
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        # The cache would have named the model, so that one problem is enough.
        named = ["teacher.model"] if without_cache else []
        problems += [one for one in problems_of(error, Recipe) if one[0] not in named]
    stages = []
    for number, stage in enumerate(_listed(raw.get("stages"))):
        part = recipe.stages[number] if recipe else _part(StagePart, stage)
        parsed, found = _parse_stage(part, _mapped(stage), number)
        problems += found
        stages.append(parsed)
    for number, part in enumerate(recipe.stages if recipe else []):
        lengths = (part.tokens, part.max_steps, part.num_train_epochs)
        if sum(length is not None for length in lengths) != 1:
            message = "give one of tokens, max_steps and num_train_epochs"
            problems.append((f"stages.{number}", message))
    read = recipe or _Readable(raw)
    parsed_recipe = Parsed(
        None if problems else recipe,
        read.teacher,
        read.student,
        read.data,
        read.training,
        read.evaluation,
        stages,
        raw.get("teacher") is not None,
    )
    return parsed_recipe, problems


def parse_recipe(raw: Mapping[str, Any]) -> tuple[Recipe | None, list[Problem]]:
    """The recipe, or None and every problem of its form."""
    parsed, problems = parse(raw)
    return parsed.recipe, problems


class _Readable:
    """The parts of a recipe that is wrong as a whole, each read on its own."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.teacher = _part(TeacherPart, as_model(raw.get("teacher")))
        self.student = _part(StudentPart, as_model(raw.get("student")))
        self.data = _part(DataPart, raw.get("data"))
        self.training = _part(TrainingPart, raw.get("training", {}))
        self.evaluation = _part(EvaluationPart, raw.get("evaluation", {}))


def _part(kind: type[_Part], value: Any) -> _Part | None:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


def _parse_stage(
    part: StagePart | None, raw: Mapping[str, Any], number: int
) -> tuple[ParsedStage, list[Problem]]:
    problems = _preset_problems(raw, f"stages.{number}")
    objectives: dict[str, ParsedObjective] = {}
    for name, options in _objectives(raw).items():
        parsed, found = parse_objective(name, options, ("stages", str(number), "objectives", name))
        problems += found
        if parsed is not None:
            objectives[name] = parsed
    policy = None
    if given := _mapped(as_kind(raw.get("policy"))):
        policy, found = parse_policy(given, ("stages", str(number), "policy"))
        problems += found
    whole = part is not None and not problems
    return ParsedStage(part, objectives, policy, whole), problems


def check_form(raw: Mapping[str, Any]) -> None:
    """Refuse what is misspelt or out of range at once, without opening any model or text.

    Raises:
        RecipeError: With every problem of form, one a line, each with its field's path, and
            beside them what is named and not there.
    """
    _, problems = parse_recipe(raw)
    if problems:
        raise RecipeError(problems_message([*problems, *_missing(raw)]))


def _missing(raw: Mapping[str, Any]) -> list[Problem]:
    """Models and texts that a recipe names and that are not there, as far as names can tell."""
    found: list[Problem] = []
    places = [("teacher", "model"), ("student", "model"), ("student", "tokenizer")]
    for part, field in places:
        named = _mapped(as_model(raw.get(part)))
        name, weightless = named.get(field), field == "tokenizer" or "server" in named
        if isinstance(name, str):
            try:
                locate(name, tokenizer_only=weightless)
            except LimbeckError as error:
                found.append((f"{part}.{field}", str(error)))
    texts = _mapped(raw.get("data")).get("text") or []
    for number, source in enumerate(texts if isinstance(texts, list) else [texts]):
        path = source if isinstance(source, str) else _mapped(source).get("path")
        if isinstance(path, str):
            try:
                ending_of(path)
            except LimbeckError as error:
                found.append((f"data.text.{number}", str(error)))
    return found


def problems_message(problems: Sequence[Problem]) -> str:
    """All that is wrong with a recipe, one a line, each with its field's path."""
    number = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "\n".join(f"  {path or 'recipe'}: {message}" for path, message in problems)
    return f"the recipe has {number}:\n{lines}"


def _with_cached_teacher(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """A recipe whose teacher is named by its kept signals, with what these are of written out."""
    teacher = raw.get("teacher")
    if not isinstance(teacher, Mapping) or "cache" not in teacher:
        return dict(raw), []
    from ..teacher.manifest import with_cached_teacher  # heavy, and seldom needed

    return with_cached_teacher(raw)


def parse_evaluation(raw: Mapping[str, Any]) -> EvaluationPart:
    """How a model is measured, as a recipe's ``evaluation``.

    Raises:
        RecipeError: With every problem of its form.
    """
    try:
        return EvaluationPart.model_validate(raw)
    except ValidationError as error:
        lines = [f"  {path}: {message}" for path, message in problems_of(error, EvaluationPart)]
        raise RecipeError("the evaluation cannot be done:\n" + "\n".join(lines)) from error


def _objectives(stage: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options of a stage's objectives by name: its preset's, with its own laid over them."""
    name = stage.get("preset")
    preset = PRESETS[name].objectives if isinstance(name, str) and name in PRESETS else {}
    own = _mapped(stage.get("objectives"))
    return {
        name: {**preset.get(name, {}), **_mapped(own.get(name))}
        for name in dict.fromkeys([*preset, *own])
    }


def _preset_problems(stage: Mapping[str, Any], path: str) -> list[Problem]:
    name = stage.get("preset")
    if isinstance(name, str) and name not in PRESETS:
        return [(f"{path}.preset", f"no preset is called {name!r}{nearest(name, PRESETS)}")]
    given = bool(name) or bool(_mapped(stage.get("objectives")))
    if stage.get("mixed") is not None:
        message = "is a mixed stage, which learns from labels alone; leave objectives out"
        return [(path, message)] if given else []
    if not given:
        return [(path, "has no objectives; name one, or a preset")]
    return []


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapped(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
