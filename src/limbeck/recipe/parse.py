"""YAML -> a recipe, and back.

Unknown keys are refused with the nearest known one, and every problem of form is found at
once, each with its field's path. An objective is checked beside the recipe: its options are
the fields of its own class.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from ..data.text import ending_of
from ..errors import LimbeckError, Problem, RecipeError, nearest
from ..models.locate import locate
from ..objectives.options import OPTIONS
from ..objectives.presets import PRESETS
from ..objectives.schedule import NumberOrRamp, Ramp
from .methods import with_method
from .parse_options import read_options
from .parse_policy import parse_policy
from .problems import problems_of
from .schema import EvaluationPart, Recipe, as_kind, as_model


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The YAML of a recipe with ``key.path=value`` overrides, not yet checked.

    Raises:
        RecipeError: The file is missing or no YAML, or an override has no place.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise RecipeError(f"{path} holds {type(raw).__name__}, a recipe is a mapping of names")
    for key, value in parse_overrides(overrides).items():
        override(raw, key, value)
    return raw


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """The values of ``key.path=value``, each read as YAML.

    Raises:
        RecipeError: One has no ``=``, or its value is not YAML.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"--set {text!r} has no `=`; write key.path=value")
        try:
            found[key] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise RecipeError(f"--set {text!r}: the value is not YAML ({error})") from error
    return found


def override(raw: dict[str, Any], path: str, value: Any) -> None:
    """Put a value at ``key.path`` of a recipe, in place.

    Raises:
        RecipeError: The recipe has no such place.
    """
    *parents, last = path.split(".")
    here: Any = raw
    if parents and isinstance(raw.get(parents[0]), str):
        raw[parents[0]] = as_model(raw[parents[0]])
    try:
        for key in parents:
            here = here[int(key)] if isinstance(here, list) else here.setdefault(key, {})
        if isinstance(here, list):
            here[int(last)] = value
        else:
            here[last] = value
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise RecipeError(f"the recipe has no place {path!r} to put {value!r}") from error


def parse_recipe(raw: Mapping[str, Any]) -> tuple[Recipe | None, list[Problem]]:
    """The recipe, or None and every problem of its form."""
    raw, problems = with_method(raw)
    raw, found = _with_cached_teacher(raw)
    problems += found
    recipe = None
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        problems += problems_of(error, Recipe)
    for number, stage in enumerate(_listed(raw.get("stages"))):
        problems += _preset_problems(_mapped(stage), f"stages.{number}")
        for name, options in stage_objectives(_mapped(stage)).items():
            place = ("stages", str(number), "objectives", name)
            problems += parse_objective(name, options, place)[2]
        policy = _mapped(as_kind(_mapped(stage).get("policy")))
        if policy:
            problems += parse_policy(policy, ("stages", str(number), "policy"))[1]
    for number, part in enumerate(recipe.stages if recipe else []):
        if (part.tokens is None) == (part.max_steps is None):
            problems.append((f"stages.{number}", "give either tokens or steps"))
    return (None if problems else recipe), problems


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
        name = _mapped(as_model(raw.get(part))).get(field)
        if isinstance(name, str):
            try:
                locate(name, tokenizer_only=field == "tokenizer")
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
    """A recipe whose teacher is named by its kept signals alone, with its model written out."""
    teacher = raw.get("teacher")
    if not isinstance(teacher, Mapping) or "model" in teacher or "cache" not in teacher:
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


def stage_objectives(stage: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
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


def parse_objective(
    name: str, options: Mapping[str, Any], place: tuple[str, ...] = ()
) -> tuple[Any, float | Ramp, list[Problem]]:
    """The options of an objective, its weight, and what is wrong with them; None if they cannot be.

    The first is an object of `objectives.options.OPTIONS`.
    """
    own = {key: value for key, value in options.items() if key not in ("kind", "weight")}
    kind = options.get("kind", name)
    path = ".".join(place)
    if kind not in OPTIONS:
        problem = f"no objective is called {kind!r}{nearest(str(kind), OPTIONS)}"
        return None, 0.0, [(path, problem)]
    weight, problems = _parse_weight(options.get("weight", 1.0), (*place, "weight"))
    fields = option_names(kind)
    for key in sorted(own.keys() - set(fields)):
        problems.append((f"{path}.{key}", f"unknown option{nearest(key, [*fields, 'weight'])}"))
    known = {key: value for key, value in own.items() if key in fields}
    found, unread = read_options(OPTIONS[kind], known, place)
    problems += unread
    problems += [(".".join([*place, name]), message) for name, message in found.problems()]
    return (None if unread else found), weight, problems


def _parse_weight(value: Any, place: tuple[str, ...]) -> tuple[float | Ramp, list[Problem]]:
    try:
        weight: float | Ramp = TypeAdapter(NumberOrRamp).validate_python(value)
    except ValidationError as error:
        return 1.0, problems_of(error, Recipe, place)
    if isinstance(weight, Ramp):
        if min(weight.start, weight.end) < 0 or max(weight.start, weight.end) <= 0:
            return 1.0, [(".".join(place), "both ends must be 0 or more, one of them above 0")]
    elif not 0 < weight < math.inf:
        message = f"is {weight:g}; give a finite number above 0, or a ramp: {{start: 1, end: 0}}"
        return 1.0, [(".".join(place), message)]
    return weight, []


def option_names(kind: str) -> list[str]:
    """The options of an objective."""
    return [option.name for option in fields_of(OPTIONS[kind])]


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every default written out."""
    plain = recipe.model_dump(mode="json", by_alias=True)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapped(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
