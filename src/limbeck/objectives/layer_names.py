"""Names for layers, so that a recipe need not count them."""

import re

from ..errors import ObjectiveError

LayerName = int | str


def layer_number(name: LayerName, layers: int) -> int:
    """The layer that a name means in a model of that many layers.

    Layers count from 0 and never include the embedding output; ``last`` is the
    deepest, ``last-1`` the one before it.

    Raises:
        ObjectiveError: There is no such layer, or the name is not understood.

    >>> layer_number("last-1", 6), layer_number(0, 6)
    (4, 0)
    """
    number = name if isinstance(name, int) else _counted_back(name, layers)
    if number is None:
        raise ObjectiveError(f"{name!r} names no layer; write a number, `last` or `last-1`")
    if not 0 <= number < layers:
        raise ObjectiveError(
            f"{name!r} is no layer of a model with {layers} layers; use 0 to {layers - 1}"
            " (the embedding output is not counted), `last` or `last-1`"
        )
    return number


def _counted_back(name: str, layers: int) -> int | None:
    word, dash, back = name.partition("-")
    if word != "last" or (dash and not re.fullmatch("[0-9]+", back)):
        return None
    return layers - 1 - (int(back) if dash else 0)


def layer_fault(field: str, name: LayerName, layers: int) -> list[tuple[str, str]]:
    """The fault of a layer name as a list: empty, or one (field, message)."""
    try:
        layer_number(name, layers)
    except ObjectiveError as error:
        return [(field, str(error))]
    return []
