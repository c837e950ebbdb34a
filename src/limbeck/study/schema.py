"""What a study may hold, and the recipe of each arm; checked without loading torch.

An arm is the study's recipe with some of its fields changed.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from ..errors import Problem, RecipeError
from ..recipe.parse import parse_recipe
from ..recipe.part import Part
from ..recipe.problems import problems_of
from ..recipe.read import is_study, override, parse_overrides, read_recipe, with_home
from ..system.numbers import Number, Whole
from .grid import lacks_objective, points, search_problems

_NAME = re.compile(r"[\w+.-]+")
_LONGEST_NAME = 100  # bytes; two of them name a file
Overrides = dict[str, Any]


class EqualTime(Part):
    """Every arm trains for the same time; a probe of each arm's speed gives its steps."""

    seconds: Number = Field(gt=0)


class Study(Part):
    """What is compared."""

    name: str = "study"
    recipe: str | dict[str, Any] = Field(
        description="what all arms share: the path of a recipe, relative to the study's file, or"
        " the recipe itself"
    )
    set: Overrides = Field(
        {}, description="fields of the recipe that change for all arms, as {data.max_length: 64}"
    )
    students: dict[str, Overrides] = Field(
        {"student": {}},
        min_length=1,
        description="fields of each student size; every arm trains every student",
    )
    arms: dict[str, Overrides] = Field(min_length=2, description="fields of each arm")
    leave_out: list[str] = Field([], description="each STUDENT/ARM that is not to be trained")
    control: str = Field(description="the arm with which all others are compared")
    search: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {},
        description="fields of the recipe with the values that are tried for every arm and the"
        " control, as {stages.0.optimizer.learning_rate: [5.0e-4, 1.0e-3]}; the best on held-out"
        " rows is taken, scored rows are not read for it",
    )
    seeds: Whole = Field(1, ge=1, description="trainings of every arm, each from its own seed")
    equal: Literal["tokens"] | EqualTime = Field(
        "tokens", description="tokens: all arms must read as many; or {seconds: 300}"
    )
    kept_gigabytes: Number = Field(
        20.0, ge=0, description="room for the teacher's signals that arms share; 0 stores none"
    )
    draws: Whole = Field(1000, ge=100, description="redraws of the paired bootstrap")


@dataclass(frozen=True)
class ArmRecipe:
    """The recipe of an arm for one student, not yet checked."""

    arm: str
    student: str
    raw: dict[str, Any]
    point: str | None = None  # of the grid, where values are searched
    values: Mapping[str, Any] = field(default_factory=dict)  # of the searched fields


def read_study(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The study's YAML with its recipe read in; the overrides change the recipe of all arms.

    Raises:
        RecipeError: A file is missing or is not YAML, or an override names no field.
    """
    raw = read_recipe(path)
    if isinstance(raw.get("recipe"), str):
        raw["recipe"] = read_recipe(path.parent / with_home(raw["recipe"]))
    if overrides and isinstance(raw.get("set") or {}, dict):
        raw["set"] = {**(raw.get("set") or {}), **parse_overrides(overrides)}
    return raw


def check_study_form(raw: Mapping[str, Any]) -> None:
    """Refuse a study in which a key is misspelt or a value is out of range; opens no model or text.

    Raises:
        RecipeError: With every problem of form of the study and of its arms, each with its place.
    """
    study = parse_study(raw)
    recipes, problems = arm_recipes(study)
    problems += placed([(recipe, parse_recipe(recipe.raw)[1]) for recipe in recipes])
    refuse([*study_problems(study), *problems])


def parse_study(raw: Mapping[str, Any]) -> Study:
    """The study, whose arms are not yet checked.

    Raises:
        RecipeError: A key is unknown or missing, or a value has the wrong type.
    """
    if "stages" in raw and not is_study(raw):
        message = (
            "is a recipe (it has `stages`), of one training: `limbeck distill` carries it out; a"
            " study gives it as `recipe`, with `arms` that change fields of it and a `control`"
        )
        raise refusal([("study", message)])
    try:
        return TypeAdapter(Study).validate_python(raw)
    except ValidationError as error:
        raise refusal(problems_of(error, Study)) from error


def study_problems(study: Study) -> list[Problem]:
    """What is wrong with the names and places in a study, apart from its recipes."""
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
        (
            f"{kind}.{name}",
            f"sets {path!r}, but all arms must be measured in the same way; set it in the recipe",
        )
        for kind, some in (("arms", study.arms), ("students", study.students))
        for name, fields in some.items()
        for path in fields
        if path.split(".")[0] == "evaluation"
    ]
    for kind, names in (("arms", study.arms), ("students", study.students)):
        problems += [
            (f"{kind}.{name}", "may hold only letters, digits and + . - _: it names a folder")
            for name in names
            if not _NAME.fullmatch(name) or set(name) == {"."}
        ]
        problems += [
            (f"{kind}.{name}", f"has {size} bytes; a name may have {_LONGEST_NAME}: it is a file's")
            for name in names
            if (size := len(name.encode())) > _LONGEST_NAME
        ]
        folders = {name.casefold(): name for name in reversed(names)}
        problems += [
            (
                f"{kind}.{name}",
                f"is {other!r} but for capitals, which some disks do not distinguish",
            )
            for name in names
            if (other := folders[name.casefold()]) != name
        ]
    fields = {"set": study.set}
    fields |= {f"students.{name}": sizes for name, sizes in study.students.items()}
    fields |= {f"arms.{name}": some for name, some in study.arms.items()}
    return problems + search_problems(study.search, fields)


def arm_recipes(study: Study) -> tuple[list[ArmRecipe], list[Problem]]:
    """The recipe of every arm for every student, and the fields that have no place in it.

    Where values are searched there is one for each point of the grid.
    """
    recipes: list[ArmRecipe] = []
    problems: list[Problem] = []
    for arm, fields in study.arms.items():
        for student, sizes in study.students.items():
            if f"{student}/{arm}" in study.leave_out:
                continue
            for point, values in points(study.search).items():
                try:
                    plain = arm_recipe(study, sizes, fields)
                    recipe = arm_recipe(study, sizes, {**fields, **values})
                except RecipeError as error:
                    problems.append((f"arms.{arm}", str(error)))
                    continue
                problems += [
                    (f"arms.{arm}", f"has no objective {lacks!r}, but the study searches {name}")
                    for name in values
                    if (lacks := lacks_objective(plain, name))
                ]
                recipe["name"] = f"{study.name}: {arm}, {student}"
                recipes.append(ArmRecipe(arm, student, recipe, point or None, values))
    return recipes, problems


def arm_recipe(study: Study, sizes: Overrides, fields: Overrides) -> dict[str, Any]:
    """The recipe of an arm for a student, not yet checked.

    Args:
        study: Holds the recipe that all arms share.
        sizes: Fields of the student.
        fields: Fields of the arm, and values that are tried for it.

    Raises:
        RecipeError: The recipe has no place for a field.
    """
    recipe: dict[str, Any] = copy.deepcopy(study.recipe) if isinstance(study.recipe, dict) else {}
    for path, value in {**study.set, **sizes, **fields}.items():
        override(recipe, path, copy.deepcopy(value))
    return recipe


def placed(found: Sequence[tuple[ArmRecipe, Sequence[Problem]]]) -> list[Problem]:
    """The problems of the recipes of arms, each with its place in the study.

    Arms, students and searched values are named where they cause a problem, not where all of
    them have it.
    """
    of_arm: dict[tuple[str, str], list[Sequence[Problem]]] = {}
    for recipe, problems in found:
        of_arm.setdefault((recipe.arm, recipe.student), []).append(problems)
    students = {student for _, student in of_arm}

    def everywhere(problem: Problem, arm: str | None = None, student: str | None = None) -> bool:
        return all(
            problem in problems
            for (one, other), points in of_arm.items()
            if arm in (None, one) and student in (None, other)
            for problems in points
        )

    all_placed = []
    for recipe, problems in found:
        arm, student = recipe.arm, recipe.student
        for problem in problems:
            path, message = problem
            if len(of_arm) > 1 and everywhere(problem):
                place = "every arm"
            elif len(students) > 1 and everywhere(problem, student=student):
                place = f"students.{student}"
            elif everywhere(problem, arm=arm):
                place = f"arms.{arm}"
            elif everywhere(problem, arm=arm, student=student):
                place = f"arms.{arm} ({student})"
            else:
                place = f"arms.{arm} ({student}) with {named_values(recipe.values)}"
            all_placed.append((f"{place}: {path}", message))
    return all_placed


def named_values(values: Mapping[str, Any]) -> str:
    """The values of searched fields, as messages name them."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def refuse(problems: Sequence[Problem]) -> None:
    """Nothing where there are no problems.

    Raises:
        RecipeError: With every problem, each once.
    """
    if problems:
        raise refusal(problems)


def refusal(problems: Sequence[Problem]) -> RecipeError:
    """The error that lists the problems of a study, one a line."""
    problems = list(dict.fromkeys(problems))
    number = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "\n".join(f"  {path or 'study'}: {message}" for path, message in problems)
    return RecipeError(f"the study has {number}:\n{lines}")
