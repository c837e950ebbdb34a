"""What is wrong with data that a user wrote, each problem with the path of its field."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from ..errors import Problem, did_you_mean, nearest

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_KEY = "[key]"  # how pydantic ends the path of a key
_SHOULD = "Input should be "
# Steps of a path that pydantic adds where a field takes several types.
_TYPES = {"str", "int", "float", "bool", "none", "list", "dict", "tuple", "any"}
_TYPES |= {f"constrained-{kind}" for kind in ("str", "int", "float")}


def problems_of(
    error: ValidationError, model: type[BaseModel], place: tuple[str, ...] = ()
) -> list[Problem]:
    """What pydantic found in data for a model, with the nearest known key of an unknown one.

    Where a field takes several types, pydantic says of each of them why the value is not of it:
    that is one problem here. Where a value could be looked into, only what is wrong inside is told.
    """
    types = _TYPES | _schema(model).get("$defs", {}).keys()
    said: dict[tuple[str, ...], list[_Said]] = {}
    choices: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    for item in error.errors():
        steps = [str(step) for step in item["loc"]]
        # Of a choice of types pydantic names the type too, as list[int]: no place of the data.
        is_type = ["[" in step or step in types for step in steps]
        if item["type"] in (*_UNKNOWN, "missing"):
            is_type[-1] = False  # a key, whatever it is called
        path = (*place, *(step for step, no in zip(steps, is_type, strict=True) if not no))
        if True in is_type:
            choices.append(((*place, *steps[: is_type.index(True)]), path))
        said.setdefault(path, []).append(_said(item, model, path))
    deepest: dict[tuple[str, ...], int] = {}
    for choice, path in choices:
        deepest[choice] = max(deepest.get(choice, 0), len(path))
    shallow = {path for choice, path in choices if len(path) < deepest[choice]}
    shallow |= {choice for choice, depth in deepest.items() if depth > len(choice)}
    return [(".".join(path), _joined(some)) for path, some in said.items() if path not in shallow]


# Pydantic makes it again each time, which takes longer than all else that is checked of a recipe.
@cache
def _schema(model: type[BaseModel]) -> Mapping[str, Any]:
    return model.model_json_schema()


class _Said(NamedTuple):
    message: str
    given: str


def _said(item: Mapping[str, Any], model: type[BaseModel], path: tuple[str, ...]) -> _Said:
    if item["type"] in _UNKNOWN:
        return _Said(f"unknown key{nearest(path[-1], _known_keys(model, path[:-1]))}", "")
    if item["type"] == "missing":
        return _Said("is missing", "")
    if item["loc"][-1:] == (_KEY,):
        return _Said(f"the name is read as {item['input']!r}, no text; write it in quotes", "")
    given = f" (given: {item['input']!r}{_nearest_choice(item)})"
    if item["type"] in ("too_short", "too_long"):
        limit = item["ctx"].get("min_length", item["ctx"].get("max_length"))
        more = "more" if item["type"] == "too_short" else "fewer"
        count = item["ctx"]["actual_length"]
        entries = "entry" if count == 1 else "entries"
        return _Said(f"has {count} {entries}; give {limit} or {more}", given)
    message = re.sub(r" or (an )?instance of \w+", "", item["msg"])
    return _Said(message.replace("an instance of Sequence", "a valid list"), given)


def _nearest_choice(item: Mapping[str, Any]) -> str:
    """Of a value that is no text of a choice, the nearest of these texts."""
    if item["type"] not in ("literal_error", "enum"):
        return ""
    choices = re.findall(r"'([^']*)'", item["ctx"]["expected"])
    return did_you_mean(str(item["input"]), choices)


def _joined(some: Sequence[_Said]) -> str:
    """One message of all that was said of a value, and the value once."""
    messages = list(dict.fromkeys(one.message for one in some))
    # "Input should be a valid list or a valid string"
    wanted = [message.removeprefix(_SHOULD) for message in messages if message.startswith(_SHOULD)]
    others = [message for message in messages if not message.startswith(_SHOULD)]
    one = [f"{_SHOULD}{' or '.join(wanted)}"] if wanted else []
    return "; ".join([*others, *one]) + next((said.given for said in some if said.given), "")


def _known_keys(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys that stand at a place of the data, as its models declare them."""
    here: Any = _schema(model)
    definitions = here.get("$defs", {})
    for step in [*path, None]:
        while "properties" not in here:
            options = [here.get("items"), *here.get("anyOf", []), *here.get("allOf", []), here]
            target = next((o for o in options if o and ("$ref" in o or "items" in o)), None)
            if target is None:
                return []
            reference = target.get("$ref")
            here = definitions[reference.rsplit("/", 1)[-1]] if reference else target["items"]
        if step is not None and not step.isdigit():
            here = here["properties"].get(step, {"properties": {}})
    return list(here["properties"])
