"""What is wrong with data that a user wrote, each problem with the path of its field."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import Problem, nearest


def problems_of(
    error: ValidationError, model: type[BaseModel], place: tuple[str, ...] = ()
) -> list[Problem]:
    """What pydantic found in data for a model, with the nearest known key of an unknown one."""
    found = []
    for item in error.errors():
        # Of a choice of types pydantic names the type too, as list[int]: no place of the data.
        steps = [str(step) for step in item["loc"]]
        path = [*place, *(step for step in steps if "[" not in step or step == steps[-1])]
        if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            message = f"unknown key{nearest(path[-1], _known_keys(model, path[:-1]))}"
        elif item["type"] == "missing":
            message = "is missing"
        else:
            message = f"{item['msg']} (given: {item['input']!r})"
        found.append((".".join(path), message))
    return found


def _known_keys(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys that stand at a place of the data, as its models declare them."""
    here: Any = model.model_json_schema()
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
