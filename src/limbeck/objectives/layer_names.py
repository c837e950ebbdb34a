"""Names for layers, so that a recipe does not have to count layers."""

import re

from ..errors import ObjectiveError
from ..system.numbers import WholeOrName

LayerName = WholeOrName


def layer_number(name: LayerName, layers: int) -> int:
    """The layer that a name means in a model of that many layers.

    Layers count from 0 and never include the embedding output; ``last`` is the
    deepest, ``last-1`` the one before it.

    Raises:
        ObjectiveError: There is no such layer, or the name is not one of these.

    >>> layer_number("last-1", 6), layer_number(0, 6), layer_number("0", 6)  # as keys of JSON are
    (4, 0, 0)
    """
    if problems := layer_name_problems("", name):
        raise ObjectiveError(problems[0][1])
    from_end = isinstance(name, str) and name.startswith("last")
    number = layers - 1 - int(str(name).partition("-")[2] or 0) if from_end else int(name)
    if not 0 <= number < layers:
        raise ObjectiveError(
            f"{name!r} is no layer of a model with {layers} layers; use 0 to {layers - 1}"
            " (the embedding output is not counted), `last` or `last-1`"
        )
    return number


def layer_name_problems(field: str, name: LayerName) -> list[tuple[str, str]]:
    """What is wrong with a layer name in any model: empty, or one (field, message).

    >>> layer_name_problems("layer", "lsat")
    [('layer', "'lsat' names no layer; give a number from 0, `last` or `last-1`")]
    """
    if isinstance(name, int):
        known, said = name >= 0, "is no layer"
    else:
        known, said = bool(re.fullmatch("last(-[0-9]+)?|[0-9]+", name)), "names no layer"
    return [] if known else [(field, f"{name!r} {said}; give a number from 0, `last` or `last-1`")]


def layer_problem(field: str, name: LayerName, layers: int) -> list[tuple[str, str]]:
    """The problem of a layer name as a list: empty, or one (field, message)."""
    try:
        layer_number(name, layers)
    except ObjectiveError as error:
        return [(field, str(error))]
    return []
