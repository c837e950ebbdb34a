"""Options that a recipe gives to a class of its own, checked as far as they can be read."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..errors import Problem
from .problems import problems_of
from .schema import Recipe


def read_options(
    kind: type, given: Mapping[str, Any], place: Sequence[str]
) -> tuple[Any, list[Problem]]:
    """An object of a dataclass of options, and what of it could not be read.

    What could not be read has its default, so that the rest can still be checked.

    Args:
        kind: Every field of it has a default.
        given: By name; the class has all of them.
        place: Where they stand in the recipe.
    """
    adapter = TypeAdapter[Any](kind)
    try:
        return adapter.validate_python(given), []
    except ValidationError as error:
        wrong = {item["loc"][0] for item in error.errors()}
        readable = {name: value for name, value in given.items() if name not in wrong}
        return adapter.validate_python(readable), problems_of(error, Recipe, tuple(place))
