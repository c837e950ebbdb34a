"""A study: arms that differ in what they name, each a whole recipe, all checked before any runs.

An arm is the study's recipe with some fields laid over it. Every arm is carried out for
every student and every seed, and is measured against the control.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from ..errors import Problem, RecipeError
from ..recipe.check import Setup, check
from ..recipe.parse import override, parse_overrides, read_recipe
from ..recipe.problems import problems_of
from ..recipe.schema import EvaluationPart, Part
from ..system.numbers import Number, Whole

_NAME = re.compile(r"[\w+.-]+")
_ROUNDING = 0.002  # stages are whole steps, so several of them read a little more than one
Overrides = dict[str, Any]


class EqualTime(Part):
    """Every arm trains for so long; its steps follow from a probe of its own speed."""

    seconds: Number = Field(gt=0)


class Study(Part):
    """What is compared."""

    name: str = "study"
    recipe: str | dict[str, Any] = Field(
        description="what all arms share: a recipe's path, seen from the study's file, or its keys"
    )
    set: Overrides = Field({}, description="fields laid over it for all, as {data.max_length: 64}")
    students: dict[str, Overrides] = Field(
        {"student": {}},
        min_length=1,
        description="fields of each student size; all arms run on all",
    )
    arms: dict[str, Overrides] = Field(min_length=2, description="fields of each arm")
    leave_out: list[str] = Field([], description="STUDENT/ARM that is not wanted")
    control: str = Field(description="the arm that the others are measured against")
    seeds: Whole = Field(1, ge=1, description="trainings of every arm, each from a seed of its own")
    equal: Literal["tokens"] | EqualTime = Field(
        "tokens", description="tokens: all arms must read as many; or {seconds: 300}"
    )
    kept_gigabytes: Number = Field(
        20.0, ge=0, description="room for the teacher's signals that arms share; 0 keeps none"
    )
    draws: Whole = Field(1000, ge=100, description="redraws of the paired bootstrap")


@dataclass(frozen=True)
class ArmRun:
    """One training: an arm, on a student, with a seed."""

    arm: str
    student: str
    seed: int
    raw: Mapping[str, Any]
    setup: Setup

    @property
    def place(self) -> str:
        """Its folder in the study's."""
        return f"arms/{self.student}/{self.arm}/{self.seed}"


def read_study(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The study's YAML with its recipe read in and overrides of the recipe laid over all arms.

    Raises:
        RecipeError: A file is missing or no YAML, or an override has no place.
    """
    raw = read_recipe(path)
    if isinstance(raw.get("recipe"), str):
        raw["recipe"] = read_recipe(path.parent / raw["recipe"])
    if overrides and isinstance(raw.get("set") or {}, dict):
        raw["set"] = {**(raw.get("set") or {}), **parse_overrides(overrides)}
    return raw


def prepare_study(raw: Mapping[str, Any]) -> tuple[Study, list[ArmRun]]:
    """The study and all its trainings, those that can share the teacher's signals together.

    Raises:
        RecipeError: With every problem of the study and of its arms, each with its place.
    """
    try:
        study = TypeAdapter(Study).validate_python(raw)
    except ValidationError as error:
        raise _refused(problems_of(error, Study)) from error
    problems = _form_problems(study)
    runs: list[ArmRun] = []
    for arm, fields in study.arms.items():
        for student, sizes in study.students.items():
            if f"{student}/{arm}" in study.leave_out:
                continue
            try:
                recipe = arm_recipe(study, sizes, fields)
            except RecipeError as error:
                problems.append((f"arms.{arm}", str(error)))
                continue
            recipe["name"] = f"{study.name}: {arm}, {student}"
            setup, found = check(recipe)
            problems += [(f"arms.{arm} ({student}): {path}", message) for path, message in found]
            if setup:
                runs += _seeded(study, arm, student, recipe, setup)
    problems += _alike(runs)
    problems += [
        (
            f"arms.{run.arm}",
            "changes how prompts are put (data.chat_template, data.separator), and all are measured alike; say"
            " in the recipe how (evaluation.generation.chat_template, evaluation.generation.separator)",
        )
        for run in runs
        if run.setup.recipe.evaluation != runs[0].setup.recipe.evaluation
    ]
    if not problems and study.equal == "tokens":
        problems += _unequal(study, runs)
    if problems:
        raise _refused(list(dict.fromkeys(problems)))
    return study, runs


def evaluation_of(runs: Sequence[ArmRun]) -> EvaluationPart:
    """How every arm is measured."""
    return runs[0].setup.recipe.evaluation


def tokens_of(setup: Setup) -> int:
    """Tokens of all stages."""
    length = setup.recipe.data.max_length
    return sum(stage.steps * stage.batch_size * length for stage in setup.stages)


def _refused(problems: Sequence[Problem]) -> RecipeError:
    lines = "\n".join(f"  {path or 'study'}: {message}" for path, message in problems)
    return RecipeError(f"the study has {len(problems)} problem(s):\n{lines}")


def _form_problems(study: Study) -> list[Problem]:
    problems = []
    if study.control not in study.arms:
        message = f"is {study.control!r}, which is no arm; use one of {', '.join(study.arms)}"
        problems.append(("control", message))
    places = {f"{student}/{arm}" for student in study.students for arm in study.arms}
    problems += [
        ("leave_out", f"names {name!r}, which is no STUDENT/ARM")
        for name in study.leave_out
        if name not in places
    ]
    problems += [
        ("leave_out", f"names {name!r}: the control is measured for every student")
        for name in study.leave_out
        if name.endswith(f"/{study.control}")
    ]
    problems += [
        (f"{kind}.{name}", f"sets {path!r}, but all are measured alike; say it in the recipe")
        for kind, some in (("arms", study.arms), ("students", study.students))
        for name, fields in some.items()
        for path in fields
        if path.split(".")[0] == "evaluation"
    ]
    for kind, names in (("arms", study.arms), ("students", study.students)):
        problems += [
            (f"{kind}.{name}", "may hold letters, digits and + . - _ alone: it names a folder")
            for name in names
            if not _NAME.fullmatch(name) or set(name) == {"."}
        ]
    return problems


def arm_recipe(study: Study, sizes: Overrides, fields: Overrides) -> dict[str, Any]:
    """The recipe of an arm for a student, not yet checked.

    Args:
        study: Has the recipe that all arms share.
        sizes: Fields of the student.
        fields: Fields of the arm.

    Raises:
        RecipeError: A field has no place in it.
    """
    recipe: dict[str, Any] = copy.deepcopy(study.recipe) if isinstance(study.recipe, dict) else {}
    for path, value in {**study.set, **sizes, **fields}.items():
        override(recipe, path, copy.deepcopy(value))
    return recipe


def _seeded(
    study: Study, arm: str, student: str, recipe: Mapping[str, Any], setup: Setup
) -> list[ArmRun]:
    seeds = [setup.recipe.seed + number for number in range(study.seeds)]
    return [
        ArmRun(arm, student, seed, {**recipe, "seed": seed}, setup.with_seed(seed))
        for seed in seeds
    ]


def _alike(runs: Sequence[ArmRun]) -> list[Problem]:
    """Arms that come to the same training, whatever they are called."""
    problems: list[Problem] = []
    for number, run in enumerate(runs):
        for other in runs[:number]:
            if other.seed == run.seed and _resolved(other) == _resolved(run):
                name, twin = f"{run.student}/{run.arm}", f"{other.student}/{other.arm}"
                message = f"differs in nothing from {twin}; change a field of one, or"
                problems.append((f"arms.{run.arm}", f"{name} {message} `leave_out: [{name}]`"))
                break
    return problems


def _resolved(run: ArmRun) -> tuple[object, ...]:
    recipe, stages = run.setup.recipe, run.setup.stages
    # A stage's default name is made of its objectives' names, which are free.
    plain = [(replace(s, name="", objectives={}), list(s.objectives.values())) for s in stages]
    alignments = [part.alignment for part in recipe.stages]
    made_of = str([plain, alignments, run.setup.maskings])
    return recipe.teacher, recipe.student, recipe.data, recipe.training, made_of


def _unequal(study: Study, runs: Sequence[ArmRun]) -> list[Problem]:
    wanted = next(tokens_of(run.setup) for run in runs if run.arm == study.control)
    return [
        (
            f"arms.{run.arm} ({run.student})",
            f"reads {tokens_of(run.setup):,} tokens and the control {wanted:,}; give all as many,"
            " or `equal: {seconds: ...}`",
        )
        for run in runs
        if abs(tokens_of(run.setup) - wanted) > _ROUNDING * wanted
    ]
