"""An objective as a recipe writes it, checked without loading what computes it."""

import math
from collections.abc import Mapping
from dataclasses import fields as fields_of
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from ..errors import Problem, nearest
from ..objectives.options import OPTIONS
from ..objectives.schedule import NumberOrRamp, Ramp
from .parse_options import read_options
from .problems import problems_of
from .schema import Recipe


class ParsedObjective(NamedTuple):
    """What a recipe says of an objective.

    Attributes:
        kind: Its name in `objectives.options.OPTIONS`.
        options: An object of the class that stands there.
        weight: A number, or a ramp over the stage.
    """

    kind: str
    options: Any
    weight: float | Ramp


def parse_objective(
    name: str, options: Mapping[str, Any], place: tuple[str, ...] = ()
) -> tuple[ParsedObjective | None, list[Problem]]:
    """An objective as a recipe has it, None where it cannot be read; and all that is wrong with it.

    Args:
        name: Its name in the recipe.
        options: Its own options, ``weight``, and ``kind`` where the name is another.
        place: Where it stands in the recipe.
    """
    own = {key: value for key, value in options.items() if key not in ("kind", "weight")}
    kind = options.get("kind", name)
    path = ".".join(place)
    if kind not in OPTIONS:
        problem = f"no objective is called {kind!r}{nearest(str(kind), OPTIONS)}"
        return None, [(path, problem)]
    weight, problems = _parse_weight(options.get("weight", 1.0), (*place, "weight"))
    fields = option_names(kind)
    for key in sorted(own.keys() - set(fields)):
        problems.append((f"{path}.{key}", f"unknown option{nearest(key, [*fields, 'weight'])}"))
    known = {key: value for key, value in own.items() if key in fields}
    found, unread = read_options(OPTIONS[kind], known, place)
    problems += unread
    problems += [(".".join([*place, name]), message) for name, message in found.problems()]
    return (None if unread else ParsedObjective(str(kind), found, weight)), problems


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
