"""The grid of a study's search: its points, and what is wrong with it, without torch."""

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

from ..errors import Problem
from ..objectives.presets import PRESETS

_KEPT = {
    "evaluation": "all arms must be measured in the same way",
    "data": "every training of the search must read and hold out the same rows",
    "seed": "the search trains with the study's first seed, and `seeds` gives the others",
    "name": "it only names runs",
}


def points(search: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """Every choice of one value for each field, by the numbers of the values in their lists.

    The last field changes first. A value that is added at the end of a list changes no number.

    >>> points({"a": [1, 2], "b": [3]})
    {'0-0': {'a': 1, 'b': 3}, '1-0': {'a': 2, 'b': 3}}
    """
    numbered = product(*(enumerate(values) for values in search.values()))
    return {
        "-".join(str(number) for number, _ in chosen): {
            name: value for name, (_, value) in zip(search, chosen, strict=True)
        }
        for chosen in numbered
    }


def search_problems(
    search: Mapping[str, Sequence[Any]], fields: Mapping[str, Mapping[str, Any]]
) -> list[Problem]:
    """What is wrong with the searched fields, apart from the recipes that they make.

    Args:
        search: The values of each field.
        fields: What else changes the recipe: fields and values, by their place in the study.
    """
    problems: list[Problem] = []
    for name, values in search.items():
        if why := _KEPT.get(name.split(".")[0]):
            message = f"cannot be searched: {why}; search fields of student, stages or training"
            problems.append((f"search.{name}", message))
        twice = [value for n, value in enumerate(values) if value in values[:n]]
        problems += [(f"search.{name}", f"names {value!r} twice") for value in twice]
    problems += [
        (f"search.{one}", f"and {other!r} decide the same field; search one of them")
        for one, other in combinations(search, 2)
        if _decides(one, {}, other) or _decides(other, {}, one)
    ]
    return problems + [
        (place, f"sets {path!r}, but the study searches {name}; leave out one of the two")
        for place, some in fields.items()
        for path, value in some.items()
        for name in search
        if _decides(path, value, name)
    ]


def lacks_objective(recipe: Mapping[str, Any], searched: str) -> str | None:
    """The objective that a searched option belongs to, where no such one is in the recipe.

    Trying the option would add the objective to an arm that is meant to do without.
    """
    stages, number, part, name, *_ = [*searched.split("."), "", "", ""]
    if (stages, part) != ("stages", "objectives") or not number.isdigit() or not name:
        return None
    found = recipe.get("stages")
    stage = found[int(number)] if isinstance(found, list) and int(number) < len(found) else None
    if not isinstance(stage, dict):
        return None  # which is a problem of its own
    preset = PRESETS.get(str(stage.get("preset")))
    known = {*(preset.objectives if preset else ()), *(stage.get("objectives") or ())}
    return None if name in known else name


def _decides(path: str, value: Any, searched: str) -> bool:
    """Whether a field with its value is a searched one, a part of it, or holds it.

    >>> _decides("stages.0", {"optimizer": {"learning_rate": 1}}, "stages.0.optimizer")
    True
    >>> _decides("stages.0", {"preset": "logits"}, "stages.0.optimizer")
    False
    """
    mine, other = path.split("."), searched.split(".")
    if len(mine) >= len(other):
        return mine[: len(other)] == other
    if other[: len(mine)] != mine:
        return False
    here = value
    for key in other[len(mine) :]:
        if isinstance(here, list) and key.isdigit() and int(key) < len(here):
            here = here[int(key)]
        elif isinstance(here, dict) and key in here:
            here = here[key]
        else:
            return False
    return True
